"""Build events from batches of records, with the columns that text and JSON output use.

As in the printer, the decoded fields of a record's part are cached under the part's bytes, for at
most a second since names change; an event then takes one dictionary look-up per part.
"""

from __future__ import annotations

import time
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.api.event import Event
from pypwru.api.packet_data import PacketData
from pypwru.bounded_memo import BoundedMemo
from pypwru.names.event_names import NameResolver, event_type, name_and_reason
from pypwru.output.columns import Column, namespace, process_path
from pypwru.output.split import DECODERS, BatchParts, RecordSplitter
from pypwru.output.tuples import FiveTuple, tuple_of
from pypwru.pcap.frame import make_frame
from pypwru.wire.fields import FlowFields, FunctionFields, PacketFields, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pypwru.pcap.select import TakeData
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_CACHE_SIZE = 1 << 14
_NAME_TTL_SECONDS = 1.0
_UNCACHED_PARTS = frozenset(
    (Part.SKB, Part.SHINFO, Part.MAP)
)  # too rarely equal to be worth caching


class ColumnField(NamedTuple):
    """How to build a field of Event from a column.

    Args:
        column: name of the column that provides the value.
        convert: convert that column and its value to the field's value.
    """

    column: str
    convert: Callable[[Column, Any], Any]


def _raw_value(column: Column, value: Any) -> Any:
    return value


def _json_value(column: Column, value: Any) -> Any:
    return column.json(value)


def _tuple_or_none(endpoints: FiveTuple) -> FiveTuple | None:
    """Return ``endpoints``, or None for a packet without an IP header."""
    return endpoints if endpoints.saddr else None


def _text_or_none(column: Column, value: str) -> str | None:
    return value.removeprefix("\n") or None


def _stack_lines(column: Column, value: str) -> tuple[str, ...]:
    return tuple(value.split("\n")[1:])


# The fields of Event after wall_ns, in their order.
COLUMN_FIELDS: Mapping[str, ColumnField] = {
    "packet_id": ColumnField("packet_id", _raw_value),
    "caller": ColumnField("caller_func", _raw_value),
    "nft": ColumnField("nft", _json_value),
    "ct": ColumnField("ct", _json_value),
    "cb": ColumnField("cb", _raw_value),
    "tunnel": ColumnField("tunnel_tuple", lambda column, ends: _tuple_or_none(ends)),
    "skb_members": ColumnField("skb_members", _json_value),
    "xdp_members": ColumnField("xdp_members", _json_value),
    "stack": ColumnField("stack", _stack_lines),
    "skb_metadata": ColumnField("skb_metadata", _text_or_none),
    "skb_shared_info": ColumnField("skb_shared_info", _text_or_none),
    "bpfmap": ColumnField("bpfmap", lambda column, called: called if called.id else None),
    "location": ColumnField("location", _json_value),
}


class _FlowFields(NamedTuple):
    """The fields of Event that come from the flow part of a record."""

    netns: int
    netns_name: str | None
    mark: int
    iface: str | None
    ifindex: int
    proto: int
    mtu: int
    len: int
    tuple: FiveTuple | None


class EventBuilder:
    """Builds events from records.

    Args:
        layout: the layout of records.
        columns: the columns of the run, for the fields of COLUMN_FIELDS; without its column a field
            is None.
        names: resolver of the numbers in records.
        get_packet_data: returns the packet data of a record; None if none is captured.
        snaplen: maximum bytes of a captured packet.
        monotonic: clock, in seconds, by which cached names expire.
    """

    def __init__(
        self,
        layout: RecordLayout,
        columns: Iterable[Column],
        names: NameResolver,
        get_packet_data: TakeData | None,
        *,
        snaplen: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count = 0
        """Number of events so far."""
        self._names = names
        self._get_packet_data = get_packet_data
        self._snaplen = snaplen
        self._monotonic = monotonic
        self._expires_at = 0.0
        by_kind = (Part.FUNCTION, Part.METADATA, Part.NFT)
        enabled = {column.name: column for column in columns}
        self._splitter = RecordSplitter(layout, by_kind, names.rule, "location" in enabled)
        decoders = {
            Part.PACKET: self._process_fields,
            Part.FLOW: self._flow_fields,
            Part.FUNCTION: self._function_fields,
        }
        self._part_caches = {
            part: BoundedMemo(decode, _CACHE_SIZE) for part, decode in decoders.items()
        }
        self._caches = list(self._part_caches.values())
        self._column_readers = [
            self._column_reader(enabled.get(field.column), field.convert)
            for field in COLUMN_FIELDS.values()
        ]

    def build(self, batch: Sequence[RawRecord]) -> Iterator[Event]:
        """Yield the event of each record in ``batch``, built lazily."""
        if not batch:
            return
        self._expire_names()
        self._names.clock.refresh_offset()
        parts = self._splitter.split(batch)
        process_fields, flow_fields, function_fields = (
            map(cache.__getitem__, parts[part]) for part, cache in self._part_caches.items()
        )
        from_columns = zip(
            *(read_column(parts) for read_column in self._column_readers), strict=False
        )  # some are infinite
        rows = zip(
            batch,
            process_fields,
            flow_fields,
            function_fields,
            parts[Part.TIME],
            from_columns,
            strict=False,
        )
        for record, packet, flow, function, ktime, extra in rows:
            wall_ns = self._names.clock.wall_ns(ktime)
            packet_data = (
                self._packet_data(record, flow, wall_ns) if self._get_packet_data else None
            )
            self.count += 1
            yield Event(*(*packet, *flow, *function, ktime, wall_ns, *extra, packet_data))

    def _packet_data(
        self, record: RawRecord, flow_fields: _FlowFields, wall_ns: int
    ) -> PacketData | None:
        captured = self._get_packet_data(record) if self._get_packet_data else None
        if captured is None or not captured.layer:
            return None
        return PacketData(
            make_frame(captured, flow_fields.proto, self._snaplen), wall_ns, flow_fields.iface
        )

    def _process_fields(self, part: bytes) -> tuple[Any, ...]:
        packet: PacketFields = DECODERS[Part.PACKET](part)
        return packet.skb, packet.cpu, packet.pid, packet.comm, process_path(packet, self._names)

    def _flow_fields(self, part: bytes) -> _FlowFields:
        flow: FlowFields = DECODERS[Part.FLOW](part)
        return _FlowFields(
            flow.netns,
            namespace(flow, self._names) or None,
            flow.mark,
            flow.ifname or None,
            flow.ifindex,
            flow.protocol,
            flow.mtu,
            flow.len,
            _tuple_or_none(tuple_of(flow)),
        )

    def _function_fields(self, part: bytes) -> tuple[Any, ...]:
        function: FunctionFields = DECODERS[Part.FUNCTION](part)
        name, reason = name_and_reason(function, self._names)
        return name, event_type(function, self._names), reason or None

    def _column_reader(
        self, column: Column | None, convert: Callable[[Column, Any], Any]
    ) -> Callable[[BatchParts], Iterable[Any]]:
        """Return a function from the parts of a batch to one field of each of its events."""
        if column is None:
            return lambda parts: repeat(None)
        enabled, read = column, DECODERS[column.part]

        def decode(part: bytes) -> Any:
            return convert(enabled, enabled.value(read(part), self._names))

        if enabled.part in _UNCACHED_PARTS:
            return lambda parts: map(decode, parts[enabled.part])
        cache = BoundedMemo(decode, _CACHE_SIZE)
        self._caches.append(cache)
        return lambda parts: map(cache.__getitem__, parts[enabled.part])

    def _expire_names(self) -> None:
        now = self._monotonic()
        if now >= self._expires_at:
            self._expires_at = now + _NAME_TTL_SECONDS
            for cache in self._caches:
                cache.clear()
