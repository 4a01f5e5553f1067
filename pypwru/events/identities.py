"""Count distinct packets by the packet ids of their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.events.lives import is_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.events.record import Member, Slices
    from pypwru.events.wire import Wire

_UNKNOWN = bytes(8)
_RECENT = 1 << 16
_SEQUENCE = (1 << 40) - 1  # mask of the sequence number in a packet id
_BLOCK = 1 << 12  # numbers in a block
_BLOCKS = 1 << 10


class _Numbers:
    """Set of mostly consecutive numbers: a bitmap of the last four million. Contains all older."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._first = 0  # index of the oldest block that may be kept

    def add(self, number: int) -> bool:
        """Add a number; return whether it is new."""
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
    """Number of distinct packets. Clones count as their original; a reused address as another.

    Args:
        part: ``part_identity`` in the tail of records.
    """

    def __init__(self, part: Member) -> None:
        self.total = 0
        self._part = slice(part.offset, part.offset + part.size)
        self._recent: set[bytes] = set()
        self._known: dict[int, _Numbers] = {}  # by CPU

    def add(self, batch: Sequence[Slices]) -> None:
        """Count the packets of a batch of records; free records are ignored."""
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
    """Return the counter of a run's packets, or None if its records have no packet ids.

    Without ids packets can't be counted: addresses are reused, and the function that frees an
    sk_buff need not be traced.

    Args:
        wire: the layout of records.
    """
    part = wire.parts.get("identity")
    return PacketCount(part) if part else None
