"""Flows: events of packets between the same two endpoints by the same protocol, both directions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pypwru.events.record import EVENT
from pypwru.output.tuples import PROTOCOLS, address

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 1 << 18
"""Flows that are counted separately."""

_RAW = 1 << 14  # distinct tuples, before they are merged into flows
_FROM, _TO = EVENT["l3"].offset - EVENT["netns"].offset, EVENT["dport"].offset + 2
ENDS = slice(_FROM, _TO - EVENT["netns"].offset)
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
        most: flows that are counted separately.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._raw: Counter[bytes] = Counter()
        self._flows: dict[bytes, tuple[bytes, int]] = {}  # sorted endpoints -> first tuple, events
        self.beyond = 0
        """Events of flows beyond ``most``."""

    def add(self, ends: Iterable[bytes]) -> None:
        """Count one event for each tuple; a tuple is a flow part sliced by ``ENDS``."""
        self._raw.update(ends)
        if len(self._raw) > _RAW:
            self._join()

    def __len__(self) -> int:
        self._join()
        return len(self._flows)

    def busiest(self, most: int) -> list[Flow]:
        """Return up to ``most`` flows, those with most events first."""
        self._join()
        found = sorted(self._flows.values(), key=lambda flow: -flow[1])
        return [_flow(ends, events) for ends, events in found[:most]]

    def _join(self) -> None:
        flows = self._flows
        for ends, events in self._raw.items():
            if not ends[0]:  # no IPv4 or IPv6 header was read
                continue
            one, other = ends[2:18] + ends[34:36], ends[18:34] + ends[36:38]
            key = ends[:2] + (one + other if one < other else other + one)
            first, before = flows.get(key, (ends, 0))
            if before or len(flows) < self._most:
                flows[key] = first, before + events
            else:
                self.beyond += events
        self._raw.clear()


def _flow(ends: bytes, events: int) -> Flow:
    version, protocol = ends[0], ends[1]
    word = PROTOCOLS.get(protocol, str(protocol))
    source = _end(version, ends[2:18], ends[34:36])
    return Flow(source, _end(version, ends[18:34], ends[36:38]), word, events)


def _end(version: int, octets: bytes, port: bytes) -> str:
    text = address(version, octets)
    number = int.from_bytes(port, "big")
    return (f"[{text}]" if version == 6 else text) + (f":{number}" if number else "")
