"""Filter for packets with a matching nft event, with their complete path.

The match comes late: the events of a packet are held until then, and discarded when the packet is
freed without one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.lives import KIND, LATE, is_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.events.record import Slices

_PACKETS = 1 << 16  # that are tracked at a time
_SIGHTS = 1 << 17  # that are held at a time
_OLD = 10_000_000_000  # ns without an event, after which an address is another packet's
_ENDED = 64  # freed packets that are kept: the late nft events of one follow at once, on its CPU


class _Packet:
    """State of a packet.

    Args:
        seen: time of its last event; CLOCK_MONOTONIC, ns.
    """

    __slots__ = ("is_judged", "is_shown", "seen", "sights")

    def __init__(self, seen: int) -> None:
        self.seen = seen
        self.is_judged = False  # its events have a verdict from now on
        self.is_shown = False
        self.sights: list[Slices] = []  # that are held; empty once it matches


class Judged:
    """A stage of the pipeline that passes on the events of packets with a matching nft event.

    Neither the free of a packet nor the allocation of the next at its address is always traced. But
    once a packet has a verdict, all of its events have one: an event without is another packet's.

    Args:
        meets: whether a record, or the last verdict in it, matches the user's criteria.
        judges: whether a record sets a verdict that all later events of its packet have; None for
            an event of a packet without a verdict.
        names: address in a record -> name, of all attached targets. The caller owns it, and adds
            targets while tracing.
    """

    def __init__(
        self,
        meets: Callable[[Slices], bool],
        judges: Callable[[Slices], bool | None],
        names: Mapping[int, str],
    ) -> None:
        self.overflowed = 0
        """Events that were discarded for lack of room, of packets without a match until then."""
        self._meets = meets
        self._judges = judges
        self._names = names
        self._packets: OrderedDict[bytes, _Packet] = OrderedDict()  # by address; last event last
        self._sights = 0  # that are held, of all packets
        self._ended: OrderedDict[bytes, _Packet] = OrderedDict()

    def take(self, batch: Sequence[Slices]) -> list[Slices]:
        """Process a batch of records.

        Returns:
            The events of matching packets, those that were held included, and all free records.
        """
        found: list[Slices] = []
        for record in batch:
            self._see(record, found)
        return found

    def _see(self, record: Slices, found: list[Slices]) -> None:
        skb = record[0][:8]
        if is_end(record):
            self._end(skb)
            found.append(record)
            return
        if record[0][KIND] in LATE and skb not in self._packets and skb in self._ended:
            self._add(self._ended[skb], record, found)
            return
        judged = self._judges(record)
        packet = self._known(skb, record[2], judged)
        packet.is_judged |= bool(judged)
        self._sights += self._add(packet, record, found)
        address = int.from_bytes(record[1][:8], "little")
        if self._names.get(address) in LAST_SIGHTS:
            self._end(skb)
        while self._sights > _SIGHTS or len(self._packets) > _PACKETS:
            self.overflowed += self._forget(next(iter(self._packets)))

    def _end(self, skb: bytes) -> None:
        """Move a packet to the freed ones, at its last event or at its free record."""
        packet = self._packets.get(skb)
        if packet is None:
            return
        self._forget(skb)
        self._ended[skb] = packet
        if len(self._ended) > _ENDED:
            self._ended.popitem(last=False)

    def _add(self, packet: _Packet, record: Slices, found: list[Slices]) -> int:
        """Add an event to a packet; return by how many more are held."""
        before = len(packet.sights)
        packet.sights.append(record)
        packet.is_shown = packet.is_shown or self._meets(record)
        if packet.is_shown:
            found += packet.sights
            packet.sights = []
        return len(packet.sights) - before

    def _known(self, skb: bytes, ktime: int, judged: bool | None) -> _Packet:
        """Return the packet at an address, or a new one if the address was reused."""
        packet = self._packets.get(skb)
        if packet is not None:
            is_old = ktime - packet.seen >= _OLD
            if not is_old and not (packet.is_judged and judged is None):
                packet.seen = ktime
                self._packets.move_to_end(skb)
                return packet
            self._forget(skb)
        packet = self._packets[skb] = _Packet(ktime)
        return packet

    def _forget(self, skb: bytes) -> int:
        """Remove a packet; return how many events were held of it."""
        held = len(self._packets.pop(skb).sights)
        self._sights -= held
        return held
