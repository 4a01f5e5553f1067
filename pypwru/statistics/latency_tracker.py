"""Measure packets: their number, the latency of each, and times of hops from event to event.

A packet is an sk_buff and all clones, copies and segments of it, which have its packet id. Its
latency is the time from its first event to its last, on any of its sk_buffs. A hop leads from
one event of an sk_buff to the next of the same sk_buff. Not counted are hops between two clones
that had the same address one after the other, and hops during which another sk_buff of the packet
was sent and freed: the original of a TCP segment waits for a retransmission meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pypwru.packets.count import PacketCounter
from pypwru.packets.tracker import (
    MAX_SKBS,
    EndReason,
    FreeKind,
    SkbTracker,
    TrackedSkb,
    is_free_record,
)
from pypwru.statistics.latencies import Latency, LatencyReservoir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.discovery.targets import Targets
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_MAX_COMPLETED = 1 << 16  # packets without a tracked sk_buff; another one of them may still come
_NO_FUNCTION = bytes(16)  # the func part of a free record

Hops = dict[bytes, list[int]]
"""func part of the hop's end -> [number of hops, sum of ns, maximum ns]."""


class _SkbTimes(TrackedSkb):
    """Times of an sk_buff.

    Args:
        skb: its address, as in records.
        packet_id: as in records.
        packet: its packet.
        time: of its first event; ns, CLOCK_MONOTONIC.
    """

    __slots__ = ("first", "hops", "last", "packet", "previous_time")

    def __init__(self, skb: bytes, packet_id: bytes, packet: _PacketTimes, time: int) -> None:
        super().__init__(skb, packet_id)
        self.packet = packet
        self.first = self.last = self.previous_time = time
        self.hops: Hops | None = None  # from the function of its last event; None before the first


class _PacketTimes:
    """A packet: first and last event of those of its sk_buffs that are no longer tracked."""

    __slots__ = ("first", "last", "last_freed_start", "skb_count")

    def __init__(self, time: int) -> None:
        self.first = self.last = time
        self.skb_count = 0
        self.last_freed_start = 0  # latest first event of an sk_buff that was freed

    def extend(self, skb: _SkbTimes) -> None:
        """Extend the times by those of an sk_buff."""
        self.first = min(self.first, skb.first)
        self.last = max(self.last, skb.last)

    def add_freed(self, skb: _SkbTimes) -> None:
        """Note that an sk_buff was freed."""
        self.last_freed_start = max(self.last_freed_start, skb.first)


class LatencyTracker:
    """Measures packets.

    Args:
        layout: the layout of records; they have a packet id.
        targets: of the run.
        max_skbs: sk_buffs that are tracked at a time, as of ``SkbTracker``.
    """

    def __init__(self, layout: RecordLayout, targets: Targets, max_skbs: int = MAX_SKBS) -> None:
        self._tracker: SkbTracker[_SkbTimes] = SkbTracker(
            layout, targets, self._start, self._on_end, max_skbs
        )
        self._packets: dict[bytes, _PacketTimes] = {}  # packet id -> packet
        self._completed: dict[bytes, _PacketTimes] = {}
        self._counter = PacketCounter(layout)
        self._latencies = LatencyReservoir()
        self.hops_by_source: defaultdict[bytes, Hops] = defaultdict(dict)
        """func part of the hop's start -> hops from there."""
        self.evicted = 0
        """sk_buffs that were evicted before a free event."""

    @property
    def packets(self) -> int:
        """Number of packets so far."""
        return self._counter.total

    def add(self, batch: Sequence[RawRecord]) -> None:
        """Process a batch of events and free records."""
        # One loop, with calls only at the first event and the free of an sk_buff: the cost of an
        # event.
        tracker, hops_by_source = self._tracker, self.hops_by_source
        skbs, free_kinds, id_slice = tracker.current, tracker.free_kinds, tracker.id_slice
        for record in batch:
            packet, func, ktime, _, tail = record
            if func == _NO_FUNCTION and is_free_record(record):
                freed = tracker.observe(record)
                if freed is not None:
                    freed.packet.add_freed(freed)
                continue
            tracked = skbs.get(packet[:8])
            if tracked is None or tail[id_slice] != tracked.packet_id:
                tracked = tracker.assign(record)
            hops = tracked.hops
            if hops is not None:
                elapsed = ktime - tracked.previous_time
                if tracked.packet.last_freed_start > tracked.previous_time:
                    hops = {}  # not counted: another sk_buff of the packet was under way
                hop = hops.get(func)
                if hop is None:
                    hop = hops[func] = [0, 0, 0]
                hop[0] += 1
                if elapsed > 0:  # records of two CPUs may be out of order
                    hop[1] += elapsed
                    if elapsed > hop[2]:
                        hop[2] = elapsed
                    if ktime > tracked.last:
                        tracked.last = ktime
                elif ktime < tracked.first:
                    tracked.first = ktime
            tracked.hops, tracked.previous_time = hops_by_source[func], ktime
            free_kind = free_kinds[func]
            if free_kind:
                tracker.free(tracked, free_kind)
                if free_kind is FreeKind.LAST_EVENT:
                    tracked.packet.add_freed(tracked)
        tracker.end_batch()

    def latency(self) -> Latency | None:
        """Return latencies so far, including those of packets under way; None without packets."""
        for tracked in self._tracker.tracked():
            tracked.packet.extend(tracked)
        under_way = (*self._packets.values(), *self._completed.values())
        return self._latencies.percentiles_with(packet.last - packet.first for packet in under_way)

    def _start(self, skb: bytes, packet_id: bytes, record: RawRecord) -> _SkbTimes:
        packet = self._packets.get(packet_id)
        if packet is None:
            packet = self._completed.pop(packet_id, None)
            if packet is None:
                packet = _PacketTimes(record[2])
                self._counter.add_id(packet_id)
            self._packets[packet_id] = packet
        packet.skb_count += 1
        return _SkbTimes(skb, packet_id, packet, record[2])

    def _on_end(self, tracked: _SkbTimes, reason: EndReason) -> None:
        self.evicted += reason is EndReason.EVICTED
        packet = tracked.packet
        packet.extend(tracked)
        packet.skb_count -= 1
        if packet.skb_count:
            return
        self._completed[tracked.packet_id] = self._packets.pop(tracked.packet_id)
        if len(self._completed) > _MAX_COMPLETED:
            oldest = self._completed.pop(next(iter(self._completed)))
            self._latencies.add(oldest.last - oldest.first)
