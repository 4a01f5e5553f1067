"""Track packets: their number, the latency of each, and times of hops from event to event.

A packet is identified by its ``packet_id``: an sk_buff and all clones, copies and segments of it.
Its latency is the time from its first event to its last, on any of its sk_buffs. A hop leads from
one event of an sk_buff to the next of the same sk_buff. Not counted are hops between two clones
that had the same address one after the other, and hops during which another sk_buff of the packet
was sent and freed: the original of a TCP segment waits for a retransmission meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pypwru.discovery.skb_lifetime import TERMINAL_TARGETS
from pypwru.packets.tracker import KIND, KINDS_AFTER_FREE, is_free_record
from pypwru.statistics.latencies import Latency, LatencyReservoir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

MAX_TRACKED = 1 << 16
"""sk_buffs in one generation of the tracker; the least recently seen generation is evicted."""
_MAX_COMPLETED = (
    1 << 16
)  # packets without a tracked sk_buff; one with their packet_id may still come
_UNKNOWN_ID = bytes(8)
_FREED = b""  # instead of the packet_id of an sk_buff that was freed: equals no record's
_NO_FUNCTION = bytes(16)  # the func part of a free record
# Of a target: it frees no sk_buff; frees one, with more events to come; is the last event of one.
_FREES_NOTHING, _FREES_SKB, _LAST_EVENT = 0, 1, 2

Hops = dict[bytes, list[int]]
"""func part of the hop's end -> [number of hops, sum of ns, maximum ns]."""


class _TrackedSkb:
    """An sk_buff that is tracked.

    Args:
        packet_id: packet_id as in records; ``_FREED`` once it was freed, so that only late nft
            events can still be of it.
        packet_key: of the packet in the tracker: packet_id, or a number if that is unknown.
        packet: of the sk_buff.
        time: of its first event; ns, CLOCK_MONOTONIC.
    """

    __slots__ = (
        "first",
        "hops",
        "is_freed",
        "last",
        "packet",
        "packet_id",
        "packet_key",
        "previous_time",
    )

    def __init__(
        self, packet_id: bytes, packet_key: bytes | int, packet: _PacketTimes, time: int
    ) -> None:
        self.packet_id = packet_id
        self.packet_key = packet_key
        self.packet = packet
        self.first = self.last = self.previous_time = time
        self.hops: Hops | None = None  # from the function of its last event; None before the first
        self.is_freed = False


class _PacketTimes:
    """A packet: first and last event of those of its sk_buffs that are no longer tracked."""

    __slots__ = ("first", "last", "last_freed_start", "skb_count")

    def __init__(self, time: int) -> None:
        self.first = self.last = time
        self.skb_count = 0
        self.last_freed_start = 0  # latest first event of an sk_buff that was freed

    def extend(self, skb: _TrackedSkb) -> None:
        """Extend the times by those of an sk_buff."""
        self.first = min(self.first, skb.first)
        self.last = max(self.last, skb.last)


class _FreeKinds(dict[bytes, int]):
    """func part -> ``_FREES_NOTHING``, ``_FREES_SKB`` or ``_LAST_EVENT``.

    A function that frees an sk_buff may call other targets before it does, and a free record
    follows; a tracepoint is the last event.
    """

    def __init__(self, targets: Mapping[int, str]) -> None:
        super().__init__()
        self._targets = targets

    def __missing__(self, func: bytes) -> int:
        name = self._targets.get(int.from_bytes(func[:8], "little"), "")
        free_kind = (
            _FREES_NOTHING
            if name not in TERMINAL_TARGETS
            else _LAST_EVENT
            if name.startswith("tp:")
            else _FREES_SKB
        )
        self[func] = free_kind
        return free_kind


class LatencyTracker:
    """Tracks packets.

    Args:
        wire: layout of records; they have ``part_packet_id``.
        targets: targets: address of a record -> name. Not copied; may grow.
        max_tracked: sk_buffs in one of two generations.
    """

    def __init__(
        self, wire: RecordLayout, targets: Mapping[int, str], max_tracked: int = MAX_TRACKED
    ) -> None:
        part = wire.parts["packet_id"]
        self._id_slice = slice(part.offset, part.offset + part.size)
        self._max_tracked = max_tracked
        self._free_kinds = _FreeKinds(targets)
        # Two-generation cache (as in CLOCK): an sk_buff without an event while the young generation
        # fills is evictable.
        self._young: dict[bytes, _TrackedSkb] = {}
        self._old: dict[bytes, _TrackedSkb] = {}
        self._packets: dict[bytes | int, _PacketTimes] = {}
        self._completed: dict[bytes | int, _PacketTimes] = {}
        self._latencies = LatencyReservoir()
        self.hops_by_source: defaultdict[bytes, Hops] = defaultdict(dict)
        """func part of the hop's start -> hops from there."""
        self.packets = 0
        """Number of packets so far."""
        self.evicted = 0
        """sk_buffs that were evicted before a free event."""

    def add(self, batch: Sequence[RawRecord]) -> None:
        """Process a batch of events and free records."""
        # One loop, with calls only at the first event and the free of an sk_buff: the cost of an
        # event.
        young, hops_by_source, free_kinds = self._young, self.hops_by_source, self._free_kinds
        id_slice = self._id_slice
        for record in batch:
            packet, func, ktime, _, tail = record
            skb, packet_id = packet[:8], tail[id_slice]
            if func == _NO_FUNCTION and is_free_record(record):
                self._on_free(skb, _LAST_EVENT)
                continue
            tracked = young.get(skb)
            if tracked is None or packet_id != tracked.packet_id:
                tracked = self._find_or_add(skb, packet_id, record)
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
            if free_kinds[func]:
                self._on_free(skb, free_kinds[func])
        if len(young) > self._max_tracked:
            self._evict_old_generation()

    def latency(self) -> Latency | None:
        """Return latencies so far, including those of packets under way; None without packets."""
        for tracked in (*self._young.values(), *self._old.values()):
            tracked.packet.extend(tracked)
        under_way = (*self._packets.values(), *self._completed.values())
        return self._latencies.percentiles_with(packet.last - packet.first for packet in under_way)

    def _find_or_add(self, skb: bytes, packet_id: bytes, record: RawRecord) -> _TrackedSkb:
        """Return the sk_buff of a record; start to track it if it is a new one.

        Called if it is not in the young generation, or is another one at the same address.

        Args:
            skb: address, as in the record.
            packet_id: packet_id, as in the record.
            record: the event.
        """
        tracked = self._lookup(skb)
        if tracked is not None:
            self._old.pop(skb, None)
            self._young[skb] = tracked
            is_freed = tracked.packet_id == _FREED
            expected_id = tracked.packet_key if is_freed else tracked.packet_id
            if packet_id in (expected_id, _UNKNOWN_ID) and not (
                is_freed and record[0][KIND] not in KINDS_AFTER_FREE
            ):
                return tracked
            self._untrack(skb)
        key = packet_id if packet_id != _UNKNOWN_ID else self.packets
        packet = self._packets.get(key)
        if packet is None:
            packet = (
                self._completed.pop(key) if key in self._completed else self._new_packet(record[2])
            )
            self._packets[key] = packet
        packet.skb_count += 1
        added = self._young[skb] = _TrackedSkb(packet_id, key, packet, record[2])
        return added

    def _lookup(self, skb: bytes) -> _TrackedSkb | None:
        return self._young.get(skb) or self._old.get(skb)

    def _new_packet(self, time: int) -> _PacketTimes:
        self.packets += 1
        return _PacketTimes(time)

    def _on_free(self, skb: bytes, free_kind: int) -> None:
        """Note that an sk_buff was freed.

        It stays in the cache unless its packet_id is unknown: the nft event of the rule that freed
        it comes later, and must not be taken for the first event of a new packet.

        Args:
            skb: address, as in the record.
            free_kind: ``_FREES_SKB`` or ``_LAST_EVENT``.
        """
        tracked = self._lookup(skb)
        if tracked is None:
            return
        tracked.is_freed = True
        if tracked.packet_id == _UNKNOWN_ID:
            self._untrack(skb)
        elif free_kind == _LAST_EVENT:
            tracked.packet_id = _FREED
            tracked.packet.last_freed_start = max(tracked.packet.last_freed_start, tracked.first)

    def _untrack(self, skb: bytes) -> None:
        """Stop tracking an sk_buff."""
        tracked = self._young.pop(skb) if skb in self._young else self._old.pop(skb)
        packet = tracked.packet
        packet.extend(tracked)
        packet.skb_count -= 1
        if packet.skb_count:
            return
        self._completed[tracked.packet_key] = self._packets.pop(tracked.packet_key)
        if len(self._completed) > _MAX_COMPLETED:
            oldest = self._completed.pop(next(iter(self._completed)))
            self._latencies.add(oldest.last - oldest.first)

    def _evict_old_generation(self) -> None:
        self.evicted += sum(not tracked.is_freed for tracked in self._old.values())
        for skb in list(self._old):
            self._untrack(skb)
        self._old.update(self._young)
        self._young.clear()
