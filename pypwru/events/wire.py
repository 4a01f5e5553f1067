"""Layout of the parts behind ``struct event``, which a run's Config selects.

The parts are ``struct part_*`` of bpf/event.h. Each has a row here with the condition on the
Config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.events.record import EVENT_SIZE, RING_HEADER, Member, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.config import Config

TEXT_HEADER = 4
"""Bytes of pwru's per-CPU buffer that hold the length of a dump; the text has the rest."""


class Wire(NamedTuple):
    """The layout of a run's records.

    Args:
        parts: name of a part -> offset and size in the tail, the bytes after ``struct event``.
        tail: size of the tail in bytes, a multiple of eight.
    """

    parts: Mapping[str, Member]
    tail: int

    @property
    def size(self) -> int:
        """Size of a record in bytes, without the ring's header."""
        return EVENT_SIZE + self.tail

    @property
    def stride(self) -> int:
        """Distance of two records on the ring in bytes."""
        return RING_HEADER + self.size

    def defines(self) -> dict[str, str]:
        """Return the macros ``WIRE_*``, name -> text. Offsets are from the start of the event."""
        offsets = {f"WIRE_{name}": EVENT_SIZE + part.offset for name, part in self.parts.items()}
        sizes = {f"WIRE_SIZE_{name}": part.size for name, part in self.parts.items()}
        numbers = {"WIRE_SIZE": self.size} | offsets | sizes
        return {name: str(number) for name, number in numbers.items()}


# Name -> size in bytes for a Config, 0 if the run doesn't have the part; in the order in records.
_PARTS: Mapping[str, Callable[[Config], int]] = {
    "caller": lambda config: (
        (config.output_caller or config.locates_drops) and size_of("part_caller")
    ),
    "cb": lambda config: config.shows_cb and size_of("part_cb"),
    "tunnel": lambda config: config.output_tunnel and size_of("part_tunnel"),
    "metadata": lambda config: (
        bool(config.output_skb_metadata or config.output_xdp_metadata) and size_of("part_metadata")
    ),
    "map": lambda config: config.output_bpfmap and size_of("part_map"),
    "nft": lambda config: config.asks_nft and size_of("part_nft"),
    "nft_at": lambda config: config.asks_rules and size_of("part_nft_at"),
    "ct": lambda config: config.output_ct and size_of("part_ct"),
    "bytes": lambda config: config.captures and size_of("part_bytes"),
    "identity": lambda config: config.identifies and size_of("part_identity"),
    "stack": lambda config: config.output_stack and size_of("part_stack"),
    "skb": lambda config: config.output_skb and config.set_percpu_buf - TEXT_HEADER,
    "shinfo": lambda config: config.output_skb_shared_info and config.set_percpu_buf - TEXT_HEADER,
}


def wire(config: Config) -> Wire:
    """Return the layout of a run's records."""
    parts: dict[str, Member] = {}
    at = 0
    for name, size in ((name, int(wanted(config))) for name, wanted in _PARTS.items()):
        if size:
            parts[name] = Member(at, size)
            at += -(-size // 8) * 8
    return Wire(parts, at)
