"""Which sights of packets are written, and which of them are of one packet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import DROP, EVERY, FIRST, LAST
from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.fate import Nest
from pypwru.events.record import Slices
from pypwru.output.columns import Names, event_type, name_and_reason
from pypwru.output.parts import KIND, function
from pypwru.output.pcap.latest import Latest
from pypwru.resolve.functions import spellings

if TYPE_CHECKING:
    from pypwru.events.packets import Captured

Take = Callable[[Slices], "Captured | None"]
"""What a record tells of a packet's bytes; asked once for each record, in their order."""

_ADDRESS = slice(0, 8)
"""Of the packet, in the packet part."""
_KEPT_TRAITS = 1 << 14
_LIVE = 1 << 20  # addresses remembered at most


class Sight(NamedTuple):
    """A sight with the packet's bytes.

    Args:
        record: what the trace knows.
        captured: the bytes.
        number: the packet's, the same in all of its sights.
        dropped: packets that were lost since the sight before; 0 while that isn't decided.
    """

    record: Slices
    captured: Captured
    number: int
    dropped: int = 0

    @property
    def size(self) -> int:
        """Octets."""
        return len(self.captured.octets)


class _Trait(NamedTuple):
    """What a function, its drop reason and the kind of an event say.

    Args:
        named: the function is asked for.
        drops: drops are, and this is one.
        ends: the packet is no more behind it.
    """

    named: bool
    drops: bool
    ends: bool


class _Traits(dict[bytes, _Trait]):
    """The func part and behind it the kind, to what that says; found out on the first look-up."""

    def __init__(self, when: frozenset[str], names: Names) -> None:
        super().__init__()
        self._when = when
        self._names = names

    def __missing__(self, part: bytes) -> _Trait:
        if len(self) >= _KEPT_TRAITS:  # there are many drop reasons
            self.clear()
        fields = function(part)
        shown, _ = name_and_reason(fields, self._names)
        bare = shown.partition("[")[0]
        drops = DROP in self._when and event_type(fields, self._names) == "drop"
        named = not self._when.isdisjoint(spellings(shown))
        trait = self[part] = _Trait(named, drops, bare in LAST_SIGHTS)
        return trait


class _Drops:
    """Tells a packet's drop from what else is told of the same."""

    def __init__(self) -> None:
        self._latest: dict[bytes, Nest] = {}

    def is_first(self, record: Slices) -> bool:
        """Whether the sight of a drop is the first of this packet's."""
        skb = record[0][_ADDRESS]
        before = self._latest.get(skb)
        if before and before.takes(record):
            return False
        if len(self._latest) >= _LIVE:
            self._latest.clear()
        self._latest[skb] = Nest(record)
        return True


class Sights:
    """Chooses sights, as ``--pcap-when`` asks for; one that several words want comes once.

    A packet ends with a function after which the kernel has it no more, or where the kernel says
    that its address is a new packet's. Its last sight is known then, or at the end. It comes before
    that when too many packets are alive, and its packet may come once more.

    Args:
        when: words, and names of functions as they are shown, with or without their module.
        names: of functions, and which of them drop.
        take: the bytes of a record.
        latest: what is kept for ``last``.
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
        self._dropped = 0  # that no sight has told of
        self.told = 0
        """Packets lost, as far as a sight has told of it."""

    def of(self, batch: Iterable[Slices]) -> list[Sight]:
        """The sights to write, those among ``batch`` in its order."""
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
        """Those that are kept."""
        return [self._told(sight) for sight in self._latest.pop_all()]

    def _told(self, sight: Sight) -> Sight:
        """A sight that is written now, and tells of what was lost before."""
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
                self._latest.pop(skb)  # this one is later, and does for both
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
