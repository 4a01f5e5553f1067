"""History of the nftables rules of one namespace: current and deleted rules by handle.

The kernel never reuses the handle of a table in a namespace, nor that of a chain in a table. It
reuses the handle of a rule only for the rule that replaces it (``nft replace``, ``iptables -R``),
and notifies of that. So a listed text is valid for an event if the rule wasn't replaced between the
event and the listing. All times are ns, CLOCK_MONOTONIC.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from pypwru.resolve.listing import Listing
from pypwru.resolve.ruleset import ChainText, RuleText, one_line
from pypwru.resolve.rulewatch import Commit, RuleName

_KEPT_GONE = 4 << 20  # bytes, estimated, of deleted rules and chains
_KEPT_REPLACED = 4096  # rules with known times of replacement
_KEPT_TIMES = 8  # versions, and times of replacement, of each
_OVERHEAD = 300  # bytes of a rule without its text
_NEVER = 1 << 63
_NO_GENERATION = -1


class Change(NamedTuple):
    """A change at an unknown time in (after, before); ns, CLOCK_MONOTONIC."""

    after: int
    before: int


class Sight(NamedTuple):
    """A version of a rule: what a handle referred to until the rule was replaced.

    Args:
        rule: text and comment.
        name: as in notifications.
        first, last: this version certainly existed between these times; ns.
    """

    rule: RuleText
    name: RuleName
    first: int
    last: int


# Handles of table, chain and, for a rule, rule.
Handles = tuple[int, ...]
Known = ChainText | tuple[Sight, ...]  # a chain; or the versions of a rule, oldest first


class Memory:
    """Rules and chains by handle, with the versions that events of the past may refer to.

    One thread at a time may record changes, and one may add listings; ``find`` may be called from
    any thread meanwhile.

    Attributes:
        since: changes are recorded from this time on; ns, CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        self.since = _NEVER
        self._known: dict[Handles, Known] = {}  # first those deleted, in order of deletion
        self._replaced: dict[RuleName, tuple[Change, ...]] = {}
        self._lost: tuple[Change, ...] = ()  # intervals in which any rule may have been replaced
        self._noting = threading.Lock()
        self._heard = 0  # latest possible time of the last change
        self._listed = Listing(_NO_GENERATION, _NO_GENERATION, {}, {}, (), 0, 0, False)

    @property
    def generation(self) -> int:
        """NFTA_GEN_ID of the last listing if that is complete and up to date; else -1."""
        listed = self._listed
        return (
            listed.generation if listed.is_whole and self._heard <= listed.ended else _NO_GENERATION
        )

    @property
    def listed_at(self) -> int:
        """Time until which the last complete listing is valid; ns; 0 without one."""
        return self._listed.ended if self._listed.is_whole else 0

    def confirm(self, moment: int) -> None:
        """Extend the validity of the last listing up to ``moment``, ns."""
        self._listed = self._listed._replace(ended=max(self._listed.ended, moment))

    def find(self, handles: Handles, moment: int) -> RuleText | ChainText | None:
        """Return the rule or chain that had these handles at a time.

        Args:
            handles: of table, chain and, for a rule, rule.
            moment: ns, CLOCK_MONOTONIC.

        Returns:
            None if the handles are unknown, or the rule may have been replaced between ``moment``
            and each listing that has it.
        """
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
        """Return whether the rule may have been replaced between ``start`` and ``end``, ns."""
        return any(
            change.after < end and start < change.before
            for change in (*self._lost, *self._replaced.get(name, ()))
        )

    def tell(self, commit: Commit, after: int, before: int) -> None:
        """Record a commit.

        Args:
            commit: as notified.
            after, before: bounds of the time at which it took effect; ns.
        """
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
        """Record that notifications were lost: any rule may have been replaced between these times.

        Args:
            after, before: bounds; ns.
        """
        self._heard = max(self._heard, before)
        self._lost = _with(self._lost, Change(after, before))

    def put(self, listing: Listing) -> None:
        """Add a listing; rules that it doesn't have become deleted ones.

        Args:
            listing: all changes up to its end must have been recorded before.
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
                    # Replaced during the listing: the text may be of either rule.
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
            # Changed without a notification: the target chain of its jump was renamed, or the
            # notification is still to come.
            self._note(new.name, Change(last.last, new.first))
        return (*older, last, new)[-_KEPT_TIMES:]

    def _gone(self, fresh: dict[Handles, Known]) -> dict[Handles, Known]:
        """Return deleted rules and chains, without the oldest beyond the limit of memory."""
        gone = {handles: each for handles, each in self._known.items() if handles not in fresh}
        size = sum(map(_size, gone.values()))
        for handles in tuple(gone):
            if size <= _KEPT_GONE:
                break
            size -= _size(gone.pop(handles))
        return gone


def _with(changes: tuple[Change, ...], new: Change) -> tuple[Change, ...]:
    """Append a change; if there are too many, merge the two oldest into one interval."""
    if len(changes) == _KEPT_TIMES:
        first, second, *others = changes
        changes = (Change(min(first.after, second.after), second.before), *others)
    return (*changes, new)


def _size(each: Known) -> int:
    if isinstance(each, ChainText):
        return _OVERHEAD
    return sum(_OVERHEAD + len(sight.rule.text) + len(sight.rule.comment) for sight in each)
