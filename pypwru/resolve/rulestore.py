"""What is known of the nftables rules of one namespace, of those that are and of those that were.

The kernel never gives the handle of a table twice in a namespace, nor that of a chain in a table.
It gives that of a rule again only to one that takes its place (``nft replace``, ``iptables -R``),
and tells so. A text is right for an event, then, if no rule took the place of another between the
event and a listing that has the text. All times are ns of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from pypwru.resolve.listing import Listing
from pypwru.resolve.ruleset import ChainText, RuleText, one_line
from pypwru.resolve.rulewatch import Commit, RuleName

_KEPT_GONE = 4 << 20  # bytes, more or less, of rules and chains that are no more
_KEPT_REPLACED = 4096  # rules
_KEPT_TIMES = 8  # of each
_OVERHEAD = 300  # bytes of a rule without its text
_NEVER = 1 << 63
_NO_GENERATION = -1


class Change(NamedTuple):
    """Something changed after ``after`` and before ``before``; when, is not known better."""

    after: int
    before: int


class Sight(NamedTuple):
    """A rule as it was listed.

    Args:
        rule: what it said.
        name: as messages have it.
        first, last: when it was that rule, for sure.
    """

    rule: RuleText
    name: RuleName
    first: int
    last: int


# Handles of table, chain and, unless it is a chain, rule.
Handles = tuple[int, ...]
Known = ChainText | tuple[Sight, ...]  # the rules that had one handle, in their order


class Memory:
    """Rules and chains by their handles.

    One thread at a time tells of changes, and one puts listings; any may look up meanwhile.
    """

    def __init__(self) -> None:
        self.since = _NEVER  # changes are told from then on
        self._known: dict[Handles, Known] = {}  # first of all what is gone, the oldest first
        self._replaced: dict[RuleName, tuple[Change, ...]] = {}
        self._lost: tuple[Change, ...] = ()  # changes of any rule
        self._noting = threading.Lock()
        self._heard = 0  # the last change
        self._listed = Listing(_NO_GENERATION, _NO_GENERATION, {}, {}, (), 0, 0, False)

    @property
    def generation(self) -> int:
        """Of the ruleset that is known and needn't be listed again; -1 for none."""
        listed = self._listed
        return (
            listed.generation if listed.is_whole and self._heard <= listed.ended else _NO_GENERATION
        )

    @property
    def listed_at(self) -> int:
        """When the ruleset was still as the last listing with all texts has it."""
        return self._listed.ended if self._listed.is_whole else 0

    def confirm(self, moment: int) -> None:
        """The ruleset was then still as it was listed last."""
        self._listed = self._listed._replace(ended=max(self._listed.ended, moment))

    def find(self, handles: Handles, moment: int) -> RuleText | ChainText | None:
        """What had these handles then; None when it can't be told which rule, or what it said."""
        found = self._known.get(handles)
        if found is None or isinstance(found, ChainText):
            return found
        if moment >= self.since:
            for sight in reversed(found):
                between = max(moment, sight.first), min(moment, sight.last)
                if not self._changed(sight.name, *between):
                    return sight.rule
        return None

    def _changed(self, name: RuleName, end: int, start: int) -> bool:
        """Whether another rule may have taken the place, in that time or at its ends."""
        return any(
            change.after < end and start < change.before
            for change in (*self._lost, *self._replaced.get(name, ()))
        )

    def tell(self, commit: Commit, after: int, before: int) -> None:
        """The ruleset changed, at some time between."""
        if commit.generation > self._listed.generation:
            after = max(after, self._listed.ended)
        for name in commit.replaced:
            self._note(name, Change(after, before))

    def _note(self, name: RuleName, change: Change) -> None:
        with self._noting:
            self._heard = max(self._heard, change.before)
            self._replaced[name] = _with(self._replaced.get(name, ()), change)
            if len(self._replaced) > _KEPT_REPLACED:
                self.doubt(min(each[0].after for each in self._replaced.values()), change.before)
                self._replaced.clear()

    def doubt(self, after: int, before: int) -> None:
        """What the kernel told of changes between was lost."""
        self._heard = max(self._heard, before)
        self._lost = _with(self._lost, Change(after, before))

    def put(self, listing: Listing) -> None:
        """Know what was listed, beside what was known.

        Args:
            listing: all that changed until its end has been told of.
        """
        fresh: dict[Handles, Known] = {}
        is_mixed = listing.since != listing.generation
        for table_handle, table in listing.tables.items():
            for chain_handle, chain in table.chains.items():
                fresh[table_handle, chain_handle] = chain.text
                for rule in chain.rules:
                    handles = (table_handle, chain_handle, rule.handle)
                    sight = Sight(
                        RuleText(listing.texts.get(handles, ""), one_line(rule.comment)),
                        RuleName(table.family, table.name, rule.handle),
                        listing.began,
                        listing.ended,
                    )
                    # Of which of two rules the text is can't be told.
                    if is_mixed and self._changed(sight.name, listing.ended, listing.began):
                        continue
                    fresh[handles] = self._seen(handles, sight)
        self._known = self._gone(fresh) | fresh
        self._listed = listing._replace(tables={}, texts={}, by_order=(), faults=())

    def _seen(self, handles: Handles, new: Sight) -> tuple[Sight, ...]:
        before = self._known.get(handles, ())
        if not before or isinstance(before, ChainText):
            return (new,)
        *older, last = before
        between = new.first, last.last
        if not self._changed(new.name, *between):
            if new.rule.comment == last.rule.comment and new.rule.text in ("", last.rule.text):
                return (*older, last._replace(last=new.last))
            if not last.rule.text:
                return (*older, new._replace(first=last.first))
            # A chain that it jumps to was renamed, or the kernel is about to tell.
            self._note(new.name, Change(last.last, new.first))
        return (*older, last, new)[-_KEPT_TIMES:]

    def _gone(self, fresh: dict[Handles, Known]) -> dict[Handles, Known]:
        """What isn't any more, and is remembered."""
        gone = {handles: each for handles, each in self._known.items() if handles not in fresh}
        size = sum(map(_size, gone.values()))
        for handles in tuple(gone):
            if size <= _KEPT_GONE:
                break
            size -= _size(gone.pop(handles))
        return gone


def _with(changes: tuple[Change, ...], new: Change) -> tuple[Change, ...]:
    """One more; the two oldest are made one where there are many."""
    if len(changes) == _KEPT_TIMES:
        first, second, *others = changes
        changes = (Change(min(first.after, second.after), second.before), *others)
    return (*changes, new)


def _size(each: Known) -> int:
    if isinstance(each, ChainText):
        return _OVERHEAD
    return sum(_OVERHEAD + len(sight.rule.text) + len(sight.rule.comment) for sight in each)
