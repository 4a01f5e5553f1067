"""How many packets were seen, by what their records say that they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.events.lives import is_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.events.record import Member, Slices
    from pypwru.events.wire import Wire

_UNKNOWN = bytes(8)
_RECENT = 1 << 16
_SEQUENCE = (1 << 40) - 1  # of part_identity
_BLOCK = 1 << 12  # numbers
_BLOCKS = 1 << 10


class _Numbers:
    """A set of numbers that are mostly given one after the other: a bit for each, of the last four
    million. An older one counts as known.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._first = 0  # of the blocks that are kept

    def add(self, number: int) -> bool:
        """Whether it is new."""
        index, place = divmod(number, _BLOCK)
        if index < self._first:
            return False
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = bytearray(_BLOCK // 8)
            if len(self._blocks) > _BLOCKS:
                oldest = min(self._blocks)
                del self._blocks[oldest]
                self._first = oldest + 1
        bit = 1 << (place & 7)
        is_new = not block[place >> 3] & bit
        block[place >> 3] |= bit
        return is_new


class PacketCount:
    """How many packets were seen: clones are the packet they are of, and an address that is given
    again is another.

    Args:
        part: of the records' tail.
    """

    def __init__(self, part: Member) -> None:
        self.total = 0
        self._part = slice(part.offset, part.offset + part.size)
        self._recent: set[bytes] = set()
        self._known: dict[int, _Numbers] = {}  # by CPU

    def add(self, batch: Sequence[Slices]) -> None:
        """Count ``batch``: the end of a packet is no sight of it."""
        recent, part = self._recent, self._part
        for record in batch:
            packet = record[4][part]
            if packet in recent or packet == _UNKNOWN or is_end(record):
                continue
            recent.add(packet)
            number = int.from_bytes(packet, "little")
            known = self._known.setdefault(number >> 40, _Numbers())
            self.total += known.add(number & _SEQUENCE)
        if len(recent) > _RECENT:
            recent.clear()


def packet_count(wire: Wire) -> PacketCount | None:
    """What counts a run's packets; None where records don't say which packet they are of: an
    address is given again, and which function frees it need not be traced.

    Args:
        wire: the layout of records.
    """
    part = wire.parts.get("identity")
    return PacketCount(part) if part else None
