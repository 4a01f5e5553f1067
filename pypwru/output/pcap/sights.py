"""The selection of events whose packets are written, and the numbering of packets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import DROP, EVERY, FIRST, LAST
from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.fate import Nest
from pypwru.events.record import Slices
from pypwru.output.parts import KIND, function
from pypwru.output.pcap.latest import Latest
from pypwru.resolve.event_names import Names, event_type, name_and_reason
from pypwru.resolve.functions import spellings

if TYPE_CHECKING:
    from pypwru.events.packets import Captured

Take = Callable[[Slices], "Captured | None"]
"""Returns and removes the captured packet data of a record; called once per record, in order."""

_ADDRESS = slice(0, 8)
"""Position of event.skb in the packet part."""
_KEPT_TRAITS = 1 << 14
_LIVE = 1 << 20  # maximum number of packet addresses in a dict


class Sight(NamedTuple):
    """An event with captured packet data.

    Args:
        record: of the event.
        captured: the packet data.
        number: the same for all events of a packet.
        dropped: number of packets lost since the event written before; 0 until it is written.
    """

    record: Slices
    captured: Captured
    number: int
    dropped: int = 0

    @property
    def size(self) -> int:
        """Bytes of packet data."""
        return len(self.captured.octets)


class _Trait(NamedTuple):
    """Properties of an event that follow from its function, drop reason and kind.

    Args:
        named: --pcap-when names the function.
        drops: --pcap-when has ``drop``, and the event drops its packet.
        ends: it is the last event of its packet.
    """

    named: bool
    drops: bool
    ends: bool


class _Traits(dict[bytes, _Trait]):
    """Cache of the func part with the kind appended -> its properties; computed on a miss."""

    def __init__(self, when: frozenset[str], names: Names) -> None:
        super().__init__()
        self._when = when
        self._names = names

    def __missing__(self, part: bytes) -> _Trait:
        if len(self) >= _KEPT_TRAITS:  # functions times drop reasons
            self.clear()
        fields = function(part)
        shown, _ = name_and_reason(fields, self._names)
        bare = shown.partition("[")[0]
        drops = DROP in self._when and event_type(fields, self._names) == "drop"
        named = not self._when.isdisjoint(spellings(shown))
        trait = self[part] = _Trait(named, drops, bare in LAST_SIGHTS)
        return trait


class _Drops:
    """Recognizes further events of one drop: nested functions report the same drop again."""

    def __init__(self) -> None:
        self._latest: dict[bytes, Nest] = {}

    def is_first(self, record: Slices) -> bool:
        """Return whether the event of a drop is the first one of that drop."""
        skb = record[0][_ADDRESS]
        before = self._latest.get(skb)
        if before and before.takes(record):
            return False
        if len(self._latest) >= _LIVE:
            self._latest.clear()
        self._latest[skb] = Nest(record)
        return True


class Sights:
    """Selector of events by --pcap-when; an event that several words select is returned once.

    A packet ends with a function that frees it, or when a record has the first-event flag at its
    address. Then, or at the end of the run, its last event is known. If too many packets are alive,
    the latest event of one is returned early, and that packet may have another "last" event.

    Args:
        when: words of --pcap-when, and names of functions as printed, with or without module.
        names: the name resolver.
        take: returns and removes the captured packet data of a record.
        latest: buffer for the word ``last``; None: a new one.
    """

    def __init__(
        self,
        when: Collection[str],
        names: Names,
        take: Take,
        latest: Latest[Sight] | None = None,
    ) -> None:
        self._take = take
        self._traits = _Traits(frozenset(when), names)
        self._every, self._first, self._last = (word in when for word in (EVERY, FIRST, LAST))
        self._latest = latest or Latest()
        self._drops = _Drops()
        self._numbers: dict[bytes, int] = {}
        self._count = 0
        self._dropped = 0  # lost packets that no returned event has reported yet
        self.told = 0
        """Number of lost packets that returned events have reported in ``dropped``."""

    def of(self, batch: Iterable[Slices]) -> list[Sight]:
        """Return the events to write: those of ``batch`` in its order, among buffered ones."""
        found: list[Sight] = []
        for record in batch:
            packet, func, _, _, _ = record
            skb = packet[_ADDRESS]
            trait = self._traits[func + packet[KIND]]
            captured = self._take(record)
            if captured is not None:
                self._dropped += captured.dropped
                if captured.first:
                    self._end(skb, found)
                if captured.layer:
                    self._add(Sight(record, captured, self._number(skb)), trait, found)
            if trait.ends:
                self._end(skb, found)
        return found

    def rest(self) -> Sequence[Sight]:
        """Return the buffered events at the end of a run, the oldest first."""
        return [self._told(sight) for sight in self._latest.pop_all()]

    def _told(self, sight: Sight) -> Sight:
        """Move the count of losses into an event that is about to be returned."""
        if not self._dropped:
            return sight
        dropped, self._dropped = self._dropped, 0
        self.told += dropped
        return sight._replace(dropped=dropped)

    def _add(self, sight: Sight, trait: _Trait, found: list[Sight]) -> None:
        skb = sight.record[0][_ADDRESS]
        drops = trait.drops and self._drops.is_first(sight.record)
        if self._every or trait.named or drops or (self._first and sight.captured.first):
            if self._last:
                self._latest.pop(skb)  # this event is later and will be written anyway
            found.append(self._told(sight))
        elif self._last:
            found += map(self._told, self._latest.put(skb, sight))

    def _end(self, skb: bytes, found: list[Sight]) -> None:
        self._numbers.pop(skb, None)
        last = self._latest.pop(skb)
        if last is not None:
            found.append(self._told(last))

    def _number(self, skb: bytes) -> int:
        number = self._numbers.get(skb)
        if number is None:
            if len(self._numbers) >= _LIVE:
                self._numbers.clear()
            self._count = number = self._numbers[skb] = self._count + 1
        return number
