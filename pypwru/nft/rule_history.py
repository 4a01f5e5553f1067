"""History of the nftables rules of one namespace: current and deleted rules by handle.

The kernel never reuses the handle of a table in a namespace, nor that of a chain in a table. It
reuses the handle of a rule only for the rule that replaces it (``nft replace``, ``iptables -R``),
and notifies of that. So a listed text is valid for an event if the rule wasn't replaced between the
event and the listing. All times are ns, CLOCK_MONOTONIC.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from pypwru.nft.list_ruleset import RulesetSnapshot
from pypwru.nft.monitor import Commit, RuleKey
from pypwru.nft.ruleset import ChainText, RuleText, sanitize_line

_MAX_DELETED_SIZE = 4 << 20  # bytes, estimated, of deleted rules and chains
_MAX_REPLACED = 4096  # rules with known times of replacement
_MAX_VERSIONS = 8  # versions, and times of replacement, of each
_OVERHEAD = 300  # bytes of a rule without its text
_NEVER = 1 << 63
_NO_GENERATION = -1


class Interval(NamedTuple):
    """A change at an unknown time in (start, end); ns, CLOCK_MONOTONIC."""

    start: int
    end: int


class RuleVersion(NamedTuple):
    """A version of a rule: what a handle referred to until the rule was replaced.

    Args:
        rule: text and comment.
        key: as in notifications.
        first, last: this version certainly existed between these times; ns.
    """

    rule: RuleText
    key: RuleKey
    first: int
    last: int


# Handles of table, chain and, for a rule, rule.
Handles = tuple[int, ...]
HistoryEntry = (
    ChainText | tuple[RuleVersion, ...]
)  # a chain; or the versions of a rule, oldest first


class RuleHistory:
    """Rules and chains by handle, with the versions that events of the past may refer to.

    One thread at a time may record changes, and one may add listings; ``find`` may be called from
    any thread meanwhile.

    Attributes:
        subscribed_at: changes are recorded from this time on; ns, CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        self.subscribed_at = _NEVER
        self._entries: dict[Handles, HistoryEntry] = {}  # first those deleted, in order of deletion
        self._replaced: dict[RuleKey, tuple[Interval, ...]] = {}
        self._uncertain: tuple[
            Interval, ...
        ] = ()  # intervals in which any rule may have been replaced
        self._replaced_lock = threading.Lock()
        self._last_change = 0  # latest possible time of the last change
        self._last_listing = RulesetSnapshot(
            _NO_GENERATION, _NO_GENERATION, {}, {}, (), 0, 0, False
        )

    @property
    def generation(self) -> int:
        """NFTA_GEN_ID of the last listing if that is complete and up to date; else -1."""
        snapshot = self._last_listing
        return (
            snapshot.generation
            if snapshot.is_complete and self._last_change <= snapshot.ended
            else _NO_GENERATION
        )

    @property
    def valid_until(self) -> int:
        """Time until which the last complete listing is valid; ns; 0 without one."""
        return self._last_listing.ended if self._last_listing.is_complete else 0

    def extend_validity(self, moment: int) -> None:
        """Extend the validity of the last listing up to ``moment``, ns."""
        self._last_listing = self._last_listing._replace(
            ended=max(self._last_listing.ended, moment)
        )

    def find(self, handles: Handles, moment: int) -> RuleText | ChainText | None:
        """Return the rule or chain that had these handles at a time.

        Args:
            handles: of table, chain and, for a rule, rule.
            moment: ns, CLOCK_MONOTONIC.

        Returns:
            None if the handles are unknown, or the rule may have been replaced between ``moment``
            and each listing that has it.
        """
        found = self._entries.get(handles)
        if found is None or isinstance(found, ChainText):
            return found
        if moment >= self.subscribed_at:
            for version in reversed(found):
                gap = max(moment, version.first), min(moment, version.last)
                if not self._may_be_replaced(version.key, *gap):
                    return version.rule
        return None

    def _may_be_replaced(self, key: RuleKey, end: int, start: int) -> bool:
        """Return whether the rule may have been replaced between ``start`` and ``end``, ns."""
        return any(
            interval.start < end and start < interval.end
            for interval in (*self._uncertain, *self._replaced.get(key, ()))
        )

    def record_commit(self, commit: Commit, start: int, end: int) -> None:
        """Record a commit.

        Args:
            commit: as notified.
            start: earliest time at which it took effect; ns.
            end: latest time at which it took effect; ns.
        """
        if commit.generation > self._last_listing.generation:
            start = max(start, self._last_listing.ended)
        for key in commit.replaced:
            self._record_replacement(key, Interval(start, end))

    def _record_replacement(self, key: RuleKey, interval: Interval) -> None:
        with self._replaced_lock:
            self._last_change = max(self._last_change, interval.end)
            self._replaced[key] = _append_interval(self._replaced.get(key, ()), interval)
            if len(self._replaced) > _MAX_REPLACED:
                self.mark_uncertain(
                    min(each[0].start for each in self._replaced.values()), interval.end
                )
                self._replaced.clear()

    def mark_uncertain(self, start: int, end: int) -> None:
        """Record that notifications were lost: any rule may have been replaced between these times.

        Args:
            start: earliest time of such a replacement; ns.
            end: latest time of such a replacement; ns.
        """
        self._last_change = max(self._last_change, end)
        self._uncertain = _append_interval(self._uncertain, Interval(start, end))

    def add_snapshot(self, listing: RulesetSnapshot) -> None:
        """Add a listing; rules that it doesn't have become deleted ones.

        Args:
            listing: all changes up to its end must have been recorded before.
        """
        listed: dict[Handles, HistoryEntry] = {}
        is_mixed = listing.start_generation != listing.generation
        for table_handle, table in listing.tables.items():
            for chain_handle, chain in table.chains.items():
                listed[table_handle, chain_handle] = chain.text
                for rule in chain.rules:
                    handles = (table_handle, chain_handle, rule.handle)
                    version = RuleVersion(
                        RuleText(listing.texts.get(handles, ""), sanitize_line(rule.comment)),
                        RuleKey(table.family, table.name, rule.handle),
                        listing.began,
                        listing.ended,
                    )
                    # Replaced during the listing: the text may be of either rule.
                    if is_mixed and self._may_be_replaced(
                        version.key, listing.ended, listing.began
                    ):
                        continue
                    listed[handles] = self._merge_version(handles, version)
        self._entries = self._deleted_entries(listed) | listed
        self._last_listing = listing._replace(tables={}, texts={}, assigned_by_order=(), faults=())

    def _merge_version(self, handles: Handles, new: RuleVersion) -> tuple[RuleVersion, ...]:
        versions = self._entries.get(handles, ())
        if not versions or isinstance(versions, ChainText):
            return (new,)
        *older, last = versions
        gap = new.first, last.last
        if not self._may_be_replaced(new.key, *gap):
            if new.rule.comment == last.rule.comment and new.rule.text in ("", last.rule.text):
                return (*older, last._replace(last=new.last))
            if not last.rule.text:
                return (*older, new._replace(first=last.first))
            # Changed without a notification: the target chain of its jump was renamed, or the
            # notification is still to come.
            self._record_replacement(new.key, Interval(last.last, new.first))
        return (*older, last, new)[-_MAX_VERSIONS:]

    def _deleted_entries(self, listed: dict[Handles, HistoryEntry]) -> dict[Handles, HistoryEntry]:
        """Return deleted rules and chains, without the oldest beyond the limit of memory."""
        deleted = {
            handles: each for handles, each in self._entries.items() if handles not in listed
        }
        size = sum(map(_entry_size, deleted.values()))
        for handles in tuple(deleted):
            if size <= _MAX_DELETED_SIZE:
                break
            size -= _entry_size(deleted.pop(handles))
        return deleted


def _append_interval(intervals: tuple[Interval, ...], new: Interval) -> tuple[Interval, ...]:
    """Append a change; if there are too many, merge the two oldest into one interval."""
    if len(intervals) == _MAX_VERSIONS:
        first, second, *others = intervals
        intervals = (Interval(min(first.start, second.start), second.end), *others)
    return (*intervals, new)


def _entry_size(entry: HistoryEntry) -> int:
    if isinstance(entry, ChainText):
        return _OVERHEAD
    return sum(_OVERHEAD + len(version.rule.text) + len(version.rule.comment) for version in entry)
