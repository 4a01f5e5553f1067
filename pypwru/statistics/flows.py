"""Flows: events of packets between the same two endpoints by the same protocol, both directions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pypwru.output.tuples import PROTOCOL_NAMES, format_address
from pypwru.wire.record import EVENT_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_FLOWS = 1 << 18
"""Flows that are counted separately."""

_MAX_TUPLES = 1 << 14  # distinct tuples, before they are merged into flows
_FROM, _TO = (
    EVENT_MEMBERS["l3"].offset - EVENT_MEMBERS["netns"].offset,
    EVENT_MEMBERS["dport"].offset + 2,
)
TUPLE_SLICE = slice(_FROM, _TO - EVENT_MEMBERS["netns"].offset)
"""Slice of the flow part: l3, l4, saddr, daddr, sport, dport; ports in network byte order."""


class Flow(NamedTuple):
    """A flow.

    Args:
        first: endpoint that sent the first traced packet, as ``address:port``; IPv6 in brackets;
            no ``:port`` without one.
        second: the other endpoint.
        protocol: name or number of the IP protocol.
        events: number of events.
    """

    first: str
    second: str
    protocol: str
    events: int


class Flows:
    """Counts the events of each flow.

    Args:
        max_flows: flows that are counted separately.
    """

    def __init__(self, max_flows: int = MAX_FLOWS) -> None:
        self._max_flows = max_flows
        self._count_by_tuple: Counter[bytes] = Counter()
        self._flows: dict[bytes, tuple[bytes, int]] = {}  # sorted endpoints -> first tuple, events
        self.events_over_limit = 0
        """Events of flows beyond ``most``."""

    def add(self, tuples: Iterable[bytes]) -> None:
        """Count one event for each tuple; a tuple is a flow part sliced by ``TUPLE_SLICE``."""
        self._count_by_tuple.update(tuples)
        if len(self._count_by_tuple) > _MAX_TUPLES:
            self._merge_tuples()

    def __len__(self) -> int:
        self._merge_tuples()
        return len(self._flows)

    def top(self, limit: int) -> list[Flow]:
        """Return up to ``limit`` flows, those with most events first."""
        self._merge_tuples()
        found = sorted(self._flows.values(), key=lambda flow: -flow[1])
        return [_make_flow(raw_tuple, events) for raw_tuple, events in found[:limit]]

    def _merge_tuples(self) -> None:
        flows = self._flows
        for raw_tuple, events in self._count_by_tuple.items():
            if not raw_tuple[0]:  # no IPv4 or IPv6 header was read
                continue
            source, destination = (
                raw_tuple[2:18] + raw_tuple[34:36],
                raw_tuple[18:34] + raw_tuple[36:38],
            )
            key = raw_tuple[:2] + (
                source + destination if source < destination else destination + source
            )
            first, count = flows.get(key, (raw_tuple, 0))
            if count or len(flows) < self._max_flows:
                flows[key] = first, count + events
            else:
                self.events_over_limit += events
        self._count_by_tuple.clear()


def _make_flow(raw_tuple: bytes, events: int) -> Flow:
    version, protocol = raw_tuple[0], raw_tuple[1]
    protocol_name = PROTOCOL_NAMES.get(protocol, str(protocol))
    source = _format_endpoint(version, raw_tuple[2:18], raw_tuple[34:36])
    return Flow(
        source, _format_endpoint(version, raw_tuple[18:34], raw_tuple[36:38]), protocol_name, events
    )


def _format_endpoint(version: int, raw_address: bytes, port: bytes) -> str:
    text = format_address(version, raw_address)
    number = int.from_bytes(port, "big")
    return (f"[{text}]" if version == 6 else text) + (f":{number}" if number else "")
