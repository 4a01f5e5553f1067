"""Filter for packets with a matching nft event, with their complete path.

The match comes late: the events of a packet are held until then, and discarded when the packet is
freed without one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pypwru.discovery.skb_lifetime import TERMINAL_TARGETS
from pypwru.packets.tracker import KIND, KINDS_AFTER_FREE, is_free_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.wire.record import RawRecord

_MAX_PACKETS = 1 << 16  # that are tracked at a time
_MAX_HELD_EVENTS = 1 << 17  # that are held at a time
_MAX_IDLE_NS = 10_000_000_000  # ns without an event, after which an address is another packet's
_MAX_FREED = (
    64  # freed packets that are kept: the late nft events of one follow at once, on its CPU
)


class _Packet:
    """State of a packet.

    Args:
        last_event: time of its last event; CLOCK_MONOTONIC, ns.
    """

    __slots__ = ("has_verdict", "held", "is_match", "last_event")

    def __init__(self, last_event: int) -> None:
        self.last_event = last_event
        self.has_verdict = False  # its events have a verdict from now on
        self.is_match = False
        self.held: list[RawRecord] = []  # that are held; empty once it matches


class NftPacketFilter:
    """A stage of the pipeline that passes on the events of packets with a matching nft event.

    Neither the free of a packet nor the allocation of the next at its address is always traced. But
    once a packet has a verdict, all of its events have one: an event without is another packet's.

    Args:
        matches: whether a record, or the last verdict in it, matches the user's criteria.
        sets_verdict: whether a record sets a verdict that all later events of its packet have;
            None for an event of a packet without a verdict.
        targets: address in a record -> name, of all attached targets. The caller owns it, and adds
            targets while tracing.
    """

    def __init__(
        self,
        matches: Callable[[RawRecord], bool],
        sets_verdict: Callable[[RawRecord], bool | None],
        targets: Mapping[int, str],
    ) -> None:
        self.evicted_events = 0
        """Events that were discarded for lack of room, of packets without a match until then."""
        self._matches = matches
        self._sets_verdict = sets_verdict
        self._targets = targets
        self._packets: OrderedDict[bytes, _Packet] = OrderedDict()  # by address; last event last
        self._held_events = 0  # that are held, of all packets
        self._freed: OrderedDict[bytes, _Packet] = OrderedDict()

    def take(self, batch: Sequence[RawRecord]) -> list[RawRecord]:
        """Process a batch of records.

        Returns:
            The events of matching packets, those that were held included, and all free records.
        """
        found: list[RawRecord] = []
        for record in batch:
            self._process(record, found)
        return found

    def _process(self, record: RawRecord, found: list[RawRecord]) -> None:
        skb = record[0][:8]
        if is_free_record(record):
            self._move_to_freed(skb)
            found.append(record)
            return
        if record[0][KIND] in KINDS_AFTER_FREE and skb not in self._packets and skb in self._freed:
            self._add_event(self._freed[skb], record, found)
            return
        sets_verdict = self._sets_verdict(record)
        packet = self._packet_at(skb, record[2], sets_verdict)
        packet.has_verdict |= bool(sets_verdict)
        self._held_events += self._add_event(packet, record, found)
        address = int.from_bytes(record[1][:8], "little")
        if self._targets.get(address) in TERMINAL_TARGETS:
            self._move_to_freed(skb)
        while self._held_events > _MAX_HELD_EVENTS or len(self._packets) > _MAX_PACKETS:
            self.evicted_events += self._remove(next(iter(self._packets)))

    def _move_to_freed(self, skb: bytes) -> None:
        """Move a packet to the freed ones, at its last event or at its free record."""
        packet = self._packets.get(skb)
        if packet is None:
            return
        self._remove(skb)
        self._freed[skb] = packet
        if len(self._freed) > _MAX_FREED:
            self._freed.popitem(last=False)

    def _add_event(self, packet: _Packet, record: RawRecord, found: list[RawRecord]) -> int:
        """Add an event to a packet; return by how many more are held."""
        before = len(packet.held)
        packet.held.append(record)
        packet.is_match = packet.is_match or self._matches(record)
        if packet.is_match:
            found += packet.held
            packet.held = []
        return len(packet.held) - before

    def _packet_at(self, skb: bytes, ktime: int, sets_verdict: bool | None) -> _Packet:
        """Return the packet at an address, or a new one if the address was reused."""
        packet = self._packets.get(skb)
        if packet is not None:
            is_old = ktime - packet.last_event >= _MAX_IDLE_NS
            if not is_old and not (packet.has_verdict and sets_verdict is None):
                packet.last_event = ktime
                self._packets.move_to_end(skb)
                return packet
            self._remove(skb)
        packet = self._packets[skb] = _Packet(ktime)
        return packet

    def _remove(self, skb: bytes) -> int:
        """Remove a packet; return how many events were held of it."""
        held = len(self._packets.pop(skb).held)
        self._held_events -= held
        return held
