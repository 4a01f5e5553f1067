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

from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.lives import KIND, LATE, is_end
from pypwru.statistics.latencies import Latencies, Latency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.events.record import Slices
    from pypwru.events.wire import Wire

ALIVE = 1 << 16
"""sk_buffs in one generation of the tracker; the least recently seen generation is evicted."""
_DONE = 1 << 16  # packets without a tracked sk_buff; one with their packet_id may still come
_UNKNOWN = bytes(8)
_OVER = b""  # instead of the packet_id of an sk_buff that was freed: equals no record's
_NOWHERE = bytes(16)  # the func part of a free record
# Of a target: it frees no sk_buff; frees one, with more events to come; is the last event of one.
_NO_END, _END, _LAST = 0, 1, 2

Hops = dict[bytes, list[int]]
"""func part of the hop's end -> [number of hops, sum of ns, maximum ns]."""


class _Carrier:
    """An sk_buff that is tracked.

    Args:
        identity: packet_id as in records; ``_OVER`` once it was freed, so that only late nft events
            can still be of it.
        key: of the packet in the tracker: packet_id, or a number if that is unknown.
        packet: of the sk_buff.
        time: of its first event; ns, CLOCK_MONOTONIC.
    """

    __slots__ = ("first", "has_ended", "hops", "identity", "key", "last", "packet", "seen")

    def __init__(self, identity: bytes, key: bytes | int, packet: _Packet, time: int) -> None:
        self.identity = identity
        self.key = key
        self.packet = packet
        self.first = self.last = self.seen = time
        self.hops: Hops | None = None  # from the function of its last event; None before the first
        self.has_ended = False


class _Packet:
    """A packet: first and last event of those of its sk_buffs that are no longer tracked."""

    __slots__ = ("carriers", "first", "last", "went_on")

    def __init__(self, time: int) -> None:
        self.first = self.last = time
        self.carriers = 0
        self.went_on = 0  # latest first event of an sk_buff that was freed

    def meet(self, carrier: _Carrier) -> None:
        """Extend the times by those of an sk_buff."""
        self.first = min(self.first, carrier.first)
        self.last = max(self.last, carrier.last)


class _Lasts(dict[bytes, int]):
    """func part -> ``_NO_END``, ``_END`` or ``_LAST``.

    A function that frees an sk_buff may call other targets before it does, and a free record
    follows; a tracepoint is the last event.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, func: bytes) -> int:
        name = self._names.get(int.from_bytes(func[:8], "little"), "")
        last = _NO_END if name not in LAST_SIGHTS else _LAST if name.startswith("tp:") else _END
        self[func] = last
        return last


class Paths:
    """Tracks packets.

    Args:
        wire: layout of records; they have ``part_identity``.
        names: targets: address of a record -> name. Not copied; may grow.
        alive: sk_buffs in one of two generations.
    """

    def __init__(self, wire: Wire, names: Mapping[int, str], alive: int = ALIVE) -> None:
        place = wire.parts["identity"]
        self._identity = slice(place.offset, place.offset + place.size)
        self._most = alive
        self._lasts = _Lasts(names)
        # Two-generation cache (as in CLOCK): an sk_buff without an event while the young generation
        # fills is evictable.
        self._alive: dict[bytes, _Carrier] = {}
        self._quiet: dict[bytes, _Carrier] = {}
        self._packets: dict[bytes | int, _Packet] = {}
        self._done: dict[bytes | int, _Packet] = {}
        self._latencies = Latencies()
        self.after: defaultdict[bytes, Hops] = defaultdict(dict)
        """func part of the hop's start -> hops from there."""
        self.packets = 0
        """Number of packets so far."""
        self.let_go = 0
        """sk_buffs that were evicted before a free event."""

    def add(self, batch: Sequence[Slices]) -> None:
        """Process a batch of events and free records."""
        # One loop, with calls only at the first event and the free of an sk_buff: the cost of an
        # event.
        alive, after, lasts = self._alive, self.after, self._lasts
        place = self._identity
        for record in batch:
            packet, func, ktime, _, tail = record
            skb, identity = packet[:8], tail[place]
            if func == _NOWHERE and is_end(record):
                self._end(skb, _LAST)
                continue
            carrier = alive.get(skb)
            if carrier is None or identity != carrier.identity:
                carrier = self._find(skb, identity, record)
            hops = carrier.hops
            if hops is not None:
                took = ktime - carrier.seen
                if carrier.packet.went_on > carrier.seen:
                    hops = {}  # not counted: another sk_buff of the packet was under way
                hop = hops.get(func)
                if hop is None:
                    hop = hops[func] = [0, 0, 0]
                hop[0] += 1
                if took > 0:  # records of two CPUs may be out of order
                    hop[1] += took
                    if took > hop[2]:
                        hop[2] = took
                    if ktime > carrier.last:
                        carrier.last = ktime
                elif ktime < carrier.first:
                    carrier.first = ktime
            carrier.hops, carrier.seen = after[func], ktime
            if lasts[func]:
                self._end(skb, lasts[func])
        if len(alive) > self._most:
            self._leave_the_quiet()

    def latency(self) -> Latency | None:
        """Return latencies so far, including those of packets under way; None without packets."""
        for carrier in (*self._alive.values(), *self._quiet.values()):
            carrier.packet.meet(carrier)
        under_way = (*self._packets.values(), *self._done.values())
        return self._latencies.with_more(packet.last - packet.first for packet in under_way)

    def _find(self, skb: bytes, identity: bytes, record: Slices) -> _Carrier:
        """Return the sk_buff of a record that is not in the young generation, or that is another
        one at the same address.

        Args:
            skb: address, as in the record.
            identity: packet_id, as in the record.
            record: the event.
        """
        known = self._of(skb)
        if known is not None:
            self._quiet.pop(skb, None)
            self._alive[skb] = known
            is_over = known.identity == _OVER
            own = known.key if is_over else known.identity
            if identity in (own, _UNKNOWN) and not (is_over and record[0][KIND] not in LATE):
                return known
            self._leave(skb)
        key = identity if identity != _UNKNOWN else self.packets
        packet = self._packets.get(key)
        if packet is None:
            packet = self._done.pop(key) if key in self._done else self._new(record[2])
            self._packets[key] = packet
        packet.carriers += 1
        carrier = self._alive[skb] = _Carrier(identity, key, packet, record[2])
        return carrier

    def _of(self, skb: bytes) -> _Carrier | None:
        return self._alive.get(skb) or self._quiet.get(skb)

    def _new(self, time: int) -> _Packet:
        self.packets += 1
        return _Packet(time)

    def _end(self, skb: bytes, last: int) -> None:
        """Note that an sk_buff was freed.

        It stays in the cache unless its packet_id is unknown: the nft event of the rule that freed
        it comes later, and must not be taken for the first event of a new packet.

        Args:
            skb: address, as in the record.
            last: ``_END`` or ``_LAST``.
        """
        carrier = self._of(skb)
        if carrier is None:
            return
        carrier.has_ended = True
        if carrier.identity == _UNKNOWN:
            self._leave(skb)
        elif last == _LAST:
            carrier.identity = _OVER
            carrier.packet.went_on = max(carrier.packet.went_on, carrier.first)

    def _leave(self, skb: bytes) -> None:
        """Stop tracking an sk_buff."""
        carrier = self._alive.pop(skb) if skb in self._alive else self._quiet.pop(skb)
        packet = carrier.packet
        packet.meet(carrier)
        packet.carriers -= 1
        if packet.carriers:
            return
        self._done[carrier.key] = self._packets.pop(carrier.key)
        if len(self._done) > _DONE:
            oldest = self._done.pop(next(iter(self._done)))
            self._latencies.add(oldest.last - oldest.first)

    def _leave_the_quiet(self) -> None:
        self.let_go += sum(not carrier.has_ended for carrier in self._quiet.values())
        for skb in list(self._quiet):
            self._leave(skb)
        self._quiet.update(self._alive)
        self._alive.clear()
