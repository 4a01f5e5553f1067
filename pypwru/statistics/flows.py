"""Flows: packets between the same two ends by the same protocol, in either direction."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pypwru.events.record import EVENT
from pypwru.output.tuples import PROTOCOLS, address

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 1 << 18
"""Flows that are told apart."""

_RAW = 1 << 14  # tuples, before they are joined to flows
_FROM, _TO = EVENT["l3"].offset - EVENT["netns"].offset, EVENT["dport"].offset + 2
ENDS = slice(_FROM, _TO - EVENT["netns"].offset)
"""Of the flow part: l3, l4, saddr, daddr, sport, dport."""


class Flow(NamedTuple):
    """A flow.

    Args:
        first: the end that sent the packet that was seen first, as ``address:port``; IPv6 is in
            brackets, and without a port there is none.
        second: the other one.
        protocol: a word, or the number of the IP protocol.
        events: how many sights.
    """

    first: str
    second: str
    protocol: str
    events: int


class Flows:
    """Counts the sights of each flow.

    Args:
        most: flows that are told apart.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._raw: Counter[bytes] = Counter()
        self._flows: dict[bytes, tuple[bytes, int]] = {}  # by both ends -> the first tuple, sights
        self.beyond = 0
        """Sights of flows for which there was no room."""

    def add(self, ends: Iterable[bytes]) -> None:
        """Count tuples, as ``ENDS`` cuts them."""
        self._raw.update(ends)
        if len(self._raw) > _RAW:
            self._join()

    def __len__(self) -> int:
        self._join()
        return len(self._flows)

    def busiest(self, most: int) -> list[Flow]:
        """The flows with most sights, those first."""
        self._join()
        found = sorted(self._flows.values(), key=lambda flow: -flow[1])
        return [_flow(ends, events) for ends, events in found[:most]]

    def _join(self) -> None:
        flows = self._flows
        for ends, events in self._raw.items():
            if not ends[0]:  # no address that could be read
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
