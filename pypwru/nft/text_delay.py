"""The delay of batches, in their order, until the texts of their rules are known.

Another thread lists the rules while the ring is read on, and batches queue here meanwhile. A known
text may be that of the rule that had the handle before, so a batch waits until all changes up to
its events are known, too. It waits for one second at most, or for five while a listing is running
or changes may be unknown; then its rules are printed without their texts.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from pypwru.nft.record import EMPTY_NFT, NFT_TIME, RuleKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pypwru.nft.rule_key import RuleTexts
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_MAX_RECORDS = 1 << 16  # records
_TIMEOUT = 1_000_000_000  # ns
# ns, while a listing of their namespace is running or due, or changes may be unknown.
_TIMEOUT_WHILE_LISTING = 5_000_000_000
_MAX_GIVEN_UP = 1 << 12  # rules whose texts didn't come in time
_BOOT_TIME = NFT_TIME.pack(1)


class _DelayedBatch(NamedTuple):
    """A delayed batch. Times are ns of CLOCK_MONOTONIC.

    Args:
        batch: its records.
        rules: rule -> time of its last nft event in the batch.
        last_times: inode of a namespace -> time of its last nft event of a rule in the batch.
        deadline: the latest release, unless a listing of missing texts is running or due, or
            changes before the events may be unknown.
        hard_deadline: the latest release in any case.
    """

    batch: Sequence[RawRecord]
    rules: dict[RuleKey, int]
    last_times: dict[int, int]
    deadline: int
    hard_deadline: int


class TextDelay:
    """The pipeline stage that delays batches.

    Args:
        texts: rule texts, filled by another thread.
        layout: the layout of records.
        clock: returns ns of CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        texts: RuleTexts,
        layout: RecordLayout,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._texts = texts
        nft, nft_time = layout.parts["nft"], layout.parts["nft_time"]
        self._nft = nft.as_slice
        self._nft_time = nft_time.as_slice
        self._clock = clock
        self._delayed: deque[_DelayedBatch] = deque()
        self._records = 0
        # Rule -> time of its last event when it was given up, and the rule service's revision then.
        self._given_up: dict[RuleKey, tuple[int, int]] = {}

    def take(self, batch: Sequence[RawRecord]) -> list[Sequence[RawRecord]]:
        """Queue a batch, and return the batches that are due, in order.

        Args:
            batch: may be empty; call with an empty one regularly while there are no events, so that
                time-outs take effect.
        """
        now = self._clock()
        if batch:
            rules = self._rules_in(batch)
            self._request_missing(rules)  # the look-up of an unknown rule requests a listing
            times = _last_times((netns, at) for (netns, *_), at in rules.items())
            deadline, hard_deadline = now + _TIMEOUT, now + _TIMEOUT_WHILE_LISTING
            self._delayed.append(_DelayedBatch(batch, rules, times, deadline, hard_deadline))
            self._records += len(batch)
            self._is_current(self._delayed[-1])  # asks the kernel, if need be
        return self._release(now)

    def finish(self) -> list[Sequence[RawRecord]]:
        """Return all queued batches at the end of a run; waits for texts one second at most."""
        if not self._delayed:
            return []
        end = self._clock() + _TIMEOUT
        times = _last_times(item for each in self._delayed for item in each.last_times.items())
        self._texts.rules.wait_current(times, _TIMEOUT / 1e9)
        self._texts.rules.relist((end - self._clock()) / 1e9)
        return self._release(self._clock() + _TIMEOUT_WHILE_LISTING)

    def _release(self, now: int) -> list[Sequence[RawRecord]]:
        released: list[Sequence[RawRecord]] = []
        while self._delayed:
            first = self._delayed[0]
            # First this: a change that becomes known may make a text missing.
            is_current = self._is_current(first)
            missing = self._request_missing(first.rules)
            if self._may_wait(first, missing, is_current, now):
                if missing or not is_current:
                    break
            else:
                self._give_up(missing)
            self._delayed.popleft()
            self._records -= len(first.batch)
            released.append(first.batch if is_current else self._without_time(first.batch))
        return released

    def _is_current(self, delayed: _DelayedBatch) -> bool:
        """Return whether all changes up to the events of a batch are known."""
        is_current, times = self._texts.rules.is_current, delayed.last_times
        # A list, not any(): each namespace is queried, also behind one that is not current.
        return not [netns for netns, at in times.items() if not is_current(netns, at)]

    def _may_wait(
        self, first: _DelayedBatch, missing: Mapping[RuleKey, int], is_current: bool, now: int
    ) -> bool:
        """Return whether the first batch may still wait.

        Args:
            first: the oldest batch.
            missing: its rules without text, each with the time of its last event.
            is_current: all changes up to its events are known.
            now: ns of CLOCK_MONOTONIC.
        """
        if self._records > _MAX_RECORDS or now >= first.hard_deadline:
            return False
        if not is_current:
            return True
        is_listing_pending = self._texts.rules.is_listing_pending
        return now < first.deadline or any(
            is_listing_pending(rule[0], at) for rule, at in missing.items()
        )

    def _without_time(self, batch: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """Make the rules of a batch that is released too early resolve to no text.

        Its nft events get a time right after boot, at which no rule was listed.
        """
        before, after = self._nft_time.start, self._nft_time.stop
        return [
            (packet, func, ktime, flow, tail[:before] + _BOOT_TIME + tail[after:])
            for packet, func, ktime, flow, tail in batch
        ]

    def _rules_in(self, batch: Sequence[RawRecord]) -> dict[RuleKey, int]:
        """Return each rule of a batch with the time of its last nft event.

        That isn't the time in its last record: a packet's later lines have the time of its verdict.
        """
        nft, nft_time = self._nft, self._nft_time
        event_times: dict[bytes, int] = {}
        for _, _, _, _, tail in batch:
            part = tail[nft]
            if part != EMPTY_NFT:
                when = int.from_bytes(tail[nft_time], "little")
                event_times[part] = max(when, event_times.get(part, 0))
        rules: dict[RuleKey, int] = {}
        for part, when in event_times.items():
            rule = self._texts.rule_key(part)
            if rule:
                rules[rule] = max(when, rules.get(rule, 0))
        return rules

    def _request_missing(self, rules: Mapping[RuleKey, int]) -> dict[RuleKey, int]:
        """Return the rules that have no text yet and weren't given up."""
        revision = self._texts.rules.revision
        return {
            rule: at
            for rule, at in rules.items()
            if not self._has_text(rule, at) and not self._is_given_up(rule, at, revision)
        }

    def _is_given_up(self, rule: RuleKey, at: int, revision: int) -> bool:
        """Return whether a rule was given up, and no look-up can have a new result since."""
        given_up = self._given_up.get(rule)
        return given_up is not None and (at <= given_up[0] or revision == given_up[1])

    def _has_text(self, rule: RuleKey, at: int) -> bool:
        found = self._texts.rules.rule(*rule, at=at)
        return found is not None and bool(found.text)

    def _give_up(self, rules: Mapping[RuleKey, int]) -> None:
        if len(self._given_up) > _MAX_GIVEN_UP:
            self._given_up.clear()
        revision = self._texts.rules.revision
        self._given_up |= {rule: (at, revision) for rule, at in rules.items()}


def _last_times(times: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the last time of each namespace.

    Args:
        times: inodes of namespaces, each with a time.
    """
    last: dict[int, int] = {}
    for netns, at in times:
        last[netns] = max(at, last.get(netns, 0))
    return last
