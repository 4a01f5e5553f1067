"""Count events: by function, by drop and by nftables rule.

Slices of records are counted, a batch at a time. A slice is resolved to a name at its first event:
the process, module or rule may be gone when a report is made.
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.events.drop_flag import ends_nothing
from pypwru.events.fate import Nest
from pypwru.events.record import Slices, constants
from pypwru.output import nft, nft_part, parts
from pypwru.output.nft_part import POLICY, with_text
from pypwru.output.parts import FUNCTION, KIND, Part
from pypwru.resolve.event_names import Names, event_type, name_and_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pypwru.config import Config
    from pypwru.events.wire import Wire

_KIND = operator.itemgetter(KIND)
_FUNCTION = FUNCTION.size
_RULE = constants()["EVENT_NFT_RULE"].to_bytes(2, "little")
_KEPT = 1 << 14  # entries of a cache; a full one is emptied

Value = TypeVar("Value")


class Drop(NamedTuple):
    """Reason and code location of drops.

    Args:
        reason: the enumerator; None if the kernel has none.
        location: ``caller+0xOFFSET``; "" if unknown.
    """

    reason: str | None
    location: str


class Rule(NamedTuple):
    """An nftables rule or policy with a verdict.

    Args:
        netns: inode of the network namespace.
        family, table, chain: ``inet``, and names.
        handle: of the rule; None for a policy or the end of a chain.
        policy: the verdict is of the chain's policy.
        verdict: ``accept``, ``drop``, ...
        text: of the rule; None if unknown, or without a rule.
    """

    netns: int
    family: str
    table: str
    chain: str
    handle: int | None
    policy: bool
    verdict: str
    text: str | None


class _Kept(dict[bytes, Value]):
    """Cache from slices to resolved values, filled at the first access."""

    def __init__(self, find: Callable[[bytes], Value]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, octets: bytes) -> Value:
        if len(self) >= _KEPT:
            self.clear()
        value = self[octets] = self._find(octets)
        return value


class Tallies:
    """Counts events.

    Args:
        config: of the run.
        wire: layout of its records.
        names: resolver of names.
    """

    def __init__(self, config: Config, wire: Wire, names: Names) -> None:
        self.events = 0
        self.functions: Counter[str] = Counter()
        self.drops: Counter[Drop] = Counter()
        """Dropped packets, each counted at the outermost function that dropped it."""
        self.drop_events: Counter[Drop] = Counter()
        """Drop events, including those of nested functions."""
        self._nests: dict[bytes, Nest] = {}  # address of the sk_buff -> its last drop
        self.rules: Counter[Rule] = Counter()
        self._names = names
        self._by_kind = config.filter_trace_tc or config.filter_trace_xdp
        self._tail = {
            name: slice(at.offset, at.offset + at.size) for name, at in wire.parts.items()
        }
        self._kinds: dict[bytes, bytes] = {}  # func part -> kind, if texts depend on the kind
        self._function = _Kept(self._name_function)
        self._drops = _Kept(self._ends_badly)
        self._drop = _Kept(self._name_drop)
        self._rules = _Kept(self._name_rule)

    def add(self, batch: Sequence[Slices]) -> None:
        """Count a batch of events, at least one, without free records."""
        self.events += len(batch)
        packets, functions, _, _, tails = zip(*batch, strict=True)
        kinds = list(map(_KIND, packets))
        if self._by_kind:
            functions = tuple(map(operator.add, functions, kinds))
        counted = Counter(functions)
        for function, hits in counted.items():
            self.functions[self._function[function]] += hits
            if self._by_kind:
                self._kinds[function[:_FUNCTION]] = function[_FUNCTION:]
        drops = {function for function in counted if self._drops[function]}
        if drops:
            self._add_drops(
                record
                for record, function in zip(batch, functions, strict=True)
                if function in drops and not ends_nothing(record[3])
            )
        if _RULE in kinds:
            self._add_rules(kinds, tails)

    def text(self, function: bytes) -> str:
        """Return the text of a func part that an event had."""
        return self._function[function + self._kinds.get(function, b"")]

    def _add_drops(self, records: Iterable[Slices]) -> None:
        """Count drop events, and drops: events of functions that a drop function calls are of the
        same drop.
        """
        caller, nests = self._tail["caller"], self._nests
        for record in records:
            packet, func, _, _, tail = record
            drop = self._drop[func + tail[caller]]
            self.drop_events[drop] += 1
            nest = nests.get(packet[:8])
            if nest is None or not nest.takes(record):
                if len(nests) >= _KEPT:
                    nests.clear()
                nests[packet[:8]] = Nest(record)
                self.drops[drop] += 1

    def _add_rules(self, kinds: Sequence[bytes], tails: Sequence[bytes]) -> None:
        said, at = self._tail["nft"], self._tail["nft_at"]
        for kind, tail in zip(kinds, tails, strict=True):
            if kind == _RULE:
                self.rules[self._rule(tail[said], int.from_bytes(tail[at], "little"))] += 1

    def _name_function(self, part: bytes) -> str:
        return self._names.function(*parts.function(part))

    def _ends_badly(self, part: bytes) -> bool:
        return event_type(parts.function(part), self._names) == "drop"

    def _name_drop(self, part: bytes) -> Drop:
        _, reason = name_and_reason(parts.function(part[:_FUNCTION]), self._names)
        frames = parts.READERS[Part.CALLER](part[_FUNCTION:])
        return Drop(reason or None, self._names.location(frames))

    def _rule(self, part: bytes, time: int) -> Rule:
        # Depends on the time of the event: a replaced rule had the same handle.
        known = self._names.rule(part, time)
        return self._rules[with_text(part + _RULE, *known) if known else part + _RULE]

    def _name_rule(self, part: bytes) -> Rule:
        what = nft.said(nft_part.nft(part), self._names.chain)
        assert what, "an EVENT_NFT_RULE record has a part_nft"
        rule = what.rule
        return Rule(
            what.nft.netns,
            what.family,
            what.table,
            what.path[-1] or "",
            rule or None,
            what.nft.type == POLICY,
            what.verdict,
            what.nft.text if rule else None,
        )
