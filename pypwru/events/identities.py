"""How many packets were seen, by what their records say that they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.events.drain import PacketCount
from pypwru.events.lives import is_end

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.events.record import Member, Slices
    from pypwru.events.wire import Wire

_UNKNOWN = bytes(8)
_RECENT = 1 << 16
_SEQUENCE = (1 << 40) - 1  # of part_identity


class _Numbers:
    """A set of numbers that are mostly given one after the other: a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> bool:
        """Whether it is new."""
        place, bit = number >> 3, 1 << (number & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits) + 4096))
        is_new = not self._bits[place] & bit
        self._bits[place] |= bit
        return is_new


class IdentityCount(PacketCount):
    """As PacketCount, where records say which packet they are of: clones are the packet they are
    of, and an address that is given again is another.

    Args:
        part: of the records' tail.
    """

    def __init__(self, part: Member) -> None:
        super().__init__({})
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


def packet_count(wire: Wire, names: Mapping[int, str]) -> PacketCount:
    """What counts a run's packets.

    Args:
        wire: the layout of records.
        names: as of PacketCount.
    """
    part = wire.parts.get("identity")
    return IdentityCount(part) if part else PacketCount(names)
