"""Build events from batches of records, with the columns that text and JSON output use.

As in the printer, the decoded fields of a record's part are cached under the part's bytes, for at
most a second since names change; an event then takes one dictionary look-up per part.
"""

from __future__ import annotations

import time
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.api.event import Event
from pypwru.api.packet import Seen
from pypwru.events.wire import wire
from pypwru.output.columns import Column, columns, namespace, program
from pypwru.output.cutting import READERS, Cutter, Parts
from pypwru.output.parts import Flow, Function, Packet, Part
from pypwru.output.pcap.frames import frame
from pypwru.output.tuples import Tuple, tuple_of
from pypwru.resolve.event_names import Names, event_type, name_and_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.output.pcap.sights import Take

_KEPT = 1 << 14
_NAMES_LAST_SECONDS = 1.0
_LARGE = frozenset((Part.SKB, Part.SHINFO, Part.MAP))  # too rarely equal to be worth caching


class More(NamedTuple):
    """How to build an optional field of Event.

    Args:
        column: name of the column that provides the value.
        member: convert that column and its value to the field's value.
    """

    column: str
    member: Callable[[Column, Any], Any]


def _value(column: Column, value: Any) -> Any:
    return value


def _json(column: Column, value: Any) -> Any:
    return column.json(value)


def _known(ends: Tuple) -> Tuple | None:
    """Return ``ends``, or None for a packet without an IP header."""
    return ends if ends.saddr else None


def _text(column: Column, value: str) -> str | None:
    return value.removeprefix("\n") or None


def _lines(column: Column, value: str) -> tuple[str, ...]:
    return tuple(value.split("\n")[1:])


# The fields of Event after wall_ns, in their order.
MORE: Mapping[str, More] = {
    "caller": More("caller_func", _value),
    "nft": More("nft", _json),
    "ct": More("ct", _json),
    "cb": More("cb", _value),
    "tunnel": More("tunnel_tuple", lambda column, ends: _known(ends)),
    "skb_members": More("skb_members", _json),
    "xdp_members": More("xdp_members", _json),
    "stack": More("stack", _lines),
    "skb_metadata": More("skb_metadata", _text),
    "skb_shared_info": More("skb_shared_info", _text),
    "bpfmap": More("bpfmap", lambda column, called: called if called.id else None),
    "packet_id": More("packet_id", _json),
    "location": More("location", _json),
}


class _Where(NamedTuple):
    """The fields of Event that come from the flow part of a record."""

    netns: int
    netns_name: str | None
    mark: int
    iface: str | None
    ifindex: int
    proto: int
    mtu: int
    len: int
    tuple: Tuple | None


class _Kept(dict[bytes, Any]):
    """A cache of decoded parts by their bytes: filled on a miss, emptied when full."""

    def __init__(self, find: Callable[[bytes], Any]) -> None:
        super().__init__()
        self.find = find

    def __missing__(self, part: bytes) -> Any:
        found = self.find(part)
        if len(self) >= _KEPT:
            self.clear()
        self[part] = found
        return found


class Events:
    """Builds events from records.

    Args:
        config: of the run; determines the layout of records.
        names: resolver of the numbers in records.
        take: returns the packet data of a record; None if none is captured.
        monotonic: clock, in seconds, by which cached names expire.
    """

    def __init__(
        self,
        config: Config,
        names: Names,
        take: Take | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.given = 0
        """Number of events so far."""
        self._names = names
        self._take = take
        self._snaplen = config.pcap_snaplen
        self._monotonic = monotonic
        self._stale_at = 0.0
        by_kind = (Part.FUNCTION, Part.METADATA, Part.NFT)
        self._cutter = Cutter(wire(config), by_kind, names.rule, config.drops)
        finders = {Part.PACKET: self._who, Part.FLOW: self._where, Part.FUNCTION: self._what}
        self._kept = {part: _Kept(find) for part, find in finders.items()}
        self._stale = list(self._kept.values())
        shown = {column.name: column for column in columns(config)}
        self._more = [self._finder(shown.get(more.column), more.member) for more in MORE.values()]

    def of(self, batch: Sequence[Slices]) -> Iterator[Event]:
        """Yield the event of each record in ``batch``, built lazily."""
        if not batch:
            return
        self._forget_stale_names()
        self._names.clock.adjust()
        parts = self._cutter.parts(batch)
        who, where, what = (map(kept.__getitem__, parts[part]) for part, kept in self._kept.items())
        more = zip(*(find(parts) for find in self._more), strict=False)  # some are infinite
        rows = zip(batch, who, where, what, parts[Part.TIME], more, strict=False)
        for record, packet, flow, function, ktime, rest in rows:
            wall = self._names.clock.wall_nanoseconds(ktime)
            seen = self._seen(record, flow, wall) if self._take else None
            self.given += 1
            yield Event(*(*packet, *flow, *function, ktime, wall, *rest, seen))

    def _seen(self, record: Slices, where: _Where, wall: int) -> Seen | None:
        captured = self._take(record) if self._take else None
        if captured is None or not captured.layer:
            return None
        return Seen(frame(captured, where.proto, self._snaplen), wall, where.iface)

    def _who(self, part: bytes) -> tuple[Any, ...]:
        packet: Packet = READERS[Part.PACKET](part)
        return packet.skb, packet.cpu, packet.pid, packet.comm, program(packet, self._names)

    def _where(self, part: bytes) -> _Where:
        flow: Flow = READERS[Part.FLOW](part)
        return _Where(
            flow.netns,
            namespace(flow, self._names) or None,
            flow.mark,
            flow.ifname or None,
            flow.ifindex,
            flow.protocol,
            flow.mtu,
            flow.len,
            _known(tuple_of(flow)),
        )

    def _what(self, part: bytes) -> tuple[Any, ...]:
        function: Function = READERS[Part.FUNCTION](part)
        name, reason = name_and_reason(function, self._names)
        return name, event_type(function, self._names), reason or None

    def _finder(
        self, column: Column | None, member: Callable[[Column, Any], Any]
    ) -> Callable[[Parts], Iterable[Any]]:
        """Return a function from the parts of a batch to one field of each of its events."""
        if column is None:
            return lambda parts: repeat(None)
        shown, read = column, READERS[column.part]

        def find(part: bytes) -> Any:
            return member(shown, shown.value(read(part), self._names))

        if shown.part in _LARGE:
            return lambda parts: map(find, parts[shown.part])
        kept = _Kept(find)
        self._stale.append(kept)
        return lambda parts: map(kept.__getitem__, parts[shown.part])

    def _forget_stale_names(self) -> None:
        now = self._monotonic()
        if now >= self._stale_at:
            self._stale_at = now + _NAMES_LAST_SECONDS
            for kept in self._stale:
                kept.clear()
