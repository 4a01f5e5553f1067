"""Layout of the parts behind ``struct event``, which a run's Needs select.

The parts are ``struct part_*`` of bpf/event.h. Each has a row here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.wire.record import EVENT_SIZE, RING_HEADER_SIZE, MemberLayout, struct_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.needs import Needs


class RecordLayout(NamedTuple):
    """The layout of a run's records.

    Args:
        parts: name of a part -> offset and size in the tail, the bytes after ``struct event``.
        tail_size: size of the tail in bytes, a multiple of eight.
        has_program_events: whether there are events of TC and XDP programs; the text of a func part
            then depends on the kind of its record.
    """

    parts: Mapping[str, MemberLayout]
    tail_size: int
    has_program_events: bool

    @property
    def size(self) -> int:
        """Size of a record in bytes, without the ring's header."""
        return EVENT_SIZE + self.tail_size

    @property
    def stride(self) -> int:
        """Distance of two records on the ring in bytes."""
        return RING_HEADER_SIZE + self.size

    def macros(self) -> dict[str, str]:
        """Return the macros ``WIRE_*``, name -> text. Offsets are from the start of the event.

        A part that the run doesn't have is at the end of the record, and has no bytes.
        """
        absent = MemberLayout(self.tail_size, 0)
        parts = {name: self.parts.get(name, absent) for name in _PART_SIZES}
        offsets = {f"WIRE_{name}": EVENT_SIZE + part.offset for name, part in parts.items()}
        sizes = {f"WIRE_SIZE_{name}": part.size for name, part in parts.items()}
        numbers = {"WIRE_SIZE": self.size} | offsets | sizes
        return {name: str(number) for name, number in numbers.items()}


# Name -> size in bytes, 0 if the run doesn't have the part; in the order in records.
_PART_SIZES: Mapping[str, Callable[[Needs], int]] = {
    "caller": lambda needs: needs.callers and struct_size("part_caller"),
    "cb": lambda needs: needs.control_block and struct_size("part_cb"),
    "tunnel": lambda needs: needs.tunnels and struct_size("part_tunnel"),
    "metadata": lambda needs: needs.members and struct_size("part_metadata"),
    "map": lambda needs: needs.map_calls and struct_size("part_map"),
    "nft": lambda needs: needs.verdicts and struct_size("part_nft"),
    "nft_time": lambda needs: needs.rule_texts and struct_size("part_nft_time"),
    "ct": lambda needs: needs.conntrack and struct_size("part_ct"),
    "bytes": lambda needs: needs.packet_data and struct_size("part_bytes"),
    "packet_id": lambda needs: needs.packet_ids and struct_size("part_packet_id"),
    "stack": lambda needs: needs.stacks and struct_size("part_stack"),
    "skb": lambda needs: needs.skb_text_size,
    "shinfo": lambda needs: needs.shared_info_text_size,
}


def record_layout(needs: Needs) -> RecordLayout:
    """Return the layout of a run's records."""
    parts: dict[str, MemberLayout] = {}
    offset = 0
    for name, size in ((name, int(part_size(needs))) for name, part_size in _PART_SIZES.items()):
        if size:
            parts[name] = MemberLayout(offset, size)
            offset += -(-size // 8) * 8
    return RecordLayout(parts, offset, needs.programs)
