"""Packets and their ways: how many, how long each took, and how long from one sight to the next.

A packet is what has one ``packet_id``: an sk_buff, and all that is made of it. Its time is from its
first sight to its last, wherever they are. A hop is from one sight of an sk_buff to the next one:
not from a clone's last to the first of the next clone at its address, nor over the time in which
the packet went on as another sk_buff, as a segment of TCP does while its own waits to be sent anew.
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
"""sk_buffs that are followed, twice at most: beyond, those that were quiet for longest are not."""
_DONE = 1 << 16  # packets without an sk_buff of which one may come
_UNKNOWN = bytes(8)
_OVER = b""  # the identity of an sk_buff that was freed: that of no record
_NOWHERE = bytes(16)  # the func part of what is no sight
_NO_END, _END, _LAST = 0, 1, 2  # whether an sk_buff ends in a function, or was freed behind it

Hops = dict[bytes, list[int]]
"""Where to -> [how often, nanoseconds in all, the longest]."""


class _Carrier:
    """An sk_buff that is followed.

    Args:
        identity: of its packet; ``_OVER`` once only nftables can still speak of it.
        key: by which that is found.
        packet: it.
        time: of its first sight.
    """

    __slots__ = ("first", "has_ended", "hops", "identity", "key", "last", "packet", "seen")

    def __init__(self, identity: bytes, key: bytes | int, packet: _Packet, time: int) -> None:
        self.identity = identity
        self.key = key
        self.packet = packet
        self.first = self.last = self.seen = time
        self.hops: Hops | None = None  # from where it was seen last; None before the first sight
        self.has_ended = False


class _Packet:
    """A packet: when it was seen, as far as its sk_buffs that are no more tell."""

    __slots__ = ("carriers", "first", "last", "went_on")

    def __init__(self, time: int) -> None:
        self.first = self.last = time
        self.carriers = 0
        self.went_on = 0  # the first sight of the youngest sk_buff that was freed

    def meet(self, carrier: _Carrier) -> None:
        """Take what an sk_buff knows."""
        self.first = min(self.first, carrier.first)
        self.last = max(self.last, carrier.last)


class _Lasts(dict[bytes, int]):
    """Func part -> whether that is the last sight of an sk_buff. Others are called inside a
    function, and what is freed there is told by a record of its own; a tracepoint is the end.
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
    """Follows packets.

    Args:
        wire: the layout of records; they have an identity.
        names: the address that a record carries -> name, of everything that is traced; may grow.
        alive: how many sk_buffs are followed before some are let go of.
    """

    def __init__(self, wire: Wire, names: Mapping[int, str], alive: int = ALIVE) -> None:
        place = wire.parts["identity"]
        self._identity = slice(place.offset, place.offset + place.size)
        self._most = alive
        self._lasts = _Lasts(names)
        # Two generations: who is not seen while the younger one fills up is quiet.
        self._alive: dict[bytes, _Carrier] = {}
        self._quiet: dict[bytes, _Carrier] = {}
        self._packets: dict[bytes | int, _Packet] = {}
        self._done: dict[bytes | int, _Packet] = {}
        self._latencies = Latencies()
        self.after: defaultdict[bytes, Hops] = defaultdict(dict)
        """The func part of a sight -> hops to the next."""
        self.packets = 0
        """How many were seen so far."""
        self.let_go = 0
        """sk_buffs that are not followed any more, though nothing told of their end."""

    def add(self, batch: Sequence[Slices]) -> None:
        """Follow the packets of a batch, in which records may also tell of ends."""
        # One loop, without a call where nothing begins or ends: it is what a sight costs.
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
                    hops = {}  # that is the time of another
                hop = hops.get(func)
                if hop is None:
                    hop = hops[func] = [0, 0, 0]
                hop[0] += 1
                if took > 0:  # two CPUs can write in another order than they saw
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
        """How long packets took so far, those that are under way included."""
        for carrier in (*self._alive.values(), *self._quiet.values()):
            carrier.packet.meet(carrier)
        under_way = (*self._packets.values(), *self._done.values())
        return self._latencies.with_more(packet.last - packet.first for packet in under_way)

    def _find(self, skb: bytes, identity: bytes, record: Slices) -> _Carrier:
        """Who is not among those that were seen lately, or who is and is another one."""
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
        """An sk_buff is freed. What frees it inside a chain of nftables is told of only later, and
        is still of it: as long as its packet is known, nobody takes it for the next one.
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
        """Follow an sk_buff no longer."""
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
