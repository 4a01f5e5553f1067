"""The delay of batches, in their order, until the texts of their rules are known.

Another thread lists the rules while the ring is read on, and batches queue here meanwhile. A batch
waits for one second at most, or for five while a listing is running; then its rules are printed
without their texts.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from pypwru.output.nft_part import NFT_AT, NOTHING, Handles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.events.record import Slices
    from pypwru.events.wire import Wire
    from pypwru.output.rule_texts import RuleTexts

_MOST = 1 << 16  # records
_PATIENCE = 1_000_000_000  # ns
_PATIENCE_WHILE_READ = 5_000_000_000  # ns, while a listing of their namespace is running or due
_REMEMBERED = 1 << 12  # rules whose texts didn't come in time
# ns. A commit takes effect up to 100 ms before its notification is read. Until then a reused handle
# would resolve to the old rule, so events wait this long.
_TOLD = 100_000_000
_AT_BOOT = NFT_AT.pack(1)


class _Waiting(NamedTuple):
    """A delayed batch. Times are ns of CLOCK_MONOTONIC.

    Args:
        batch: its records.
        asked: rule -> time of its last nft event in the batch.
        since: the earliest release: notifications of all earlier commits have been read by then.
        until: the latest release, unless a listing of missing texts is running or due.
        end: the latest release in any case.
    """

    batch: Sequence[Slices]
    asked: dict[Handles, int]
    since: int
    until: int
    end: int


class Held:
    """The pipeline stage that delays batches.

    Args:
        texts: rule texts, filled by another thread.
        wire: the layout of records.
        clock: returns ns of CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        texts: RuleTexts,
        wire: Wire,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._texts = texts
        said, at = wire.parts["nft"], wire.parts["nft_at"]
        self._said = slice(said.offset, said.offset + said.size)
        self._at = slice(at.offset, at.offset + at.size)
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._records = 0
        # Rule -> time of its last event when it was given up, and the rule service's revision then.
        self._in_vain: dict[Handles, tuple[int, int]] = {}

    def take(self, batch: Sequence[Slices]) -> list[Sequence[Slices]]:
        """Queue a batch, and return the batches that are due, in order.

        Args:
            batch: may be empty; call with an empty one regularly while there are no events, so that
                time-outs take effect.
        """
        now = self._clock()
        if batch:
            asked = self._asked(batch)
            self._lacking(asked)  # the look-up of an unknown rule requests a listing
            told = max(asked.values(), default=0) + _TOLD
            until, end = now + _PATIENCE, now + _PATIENCE_WHILE_READ
            self._waiting.append(_Waiting(batch, asked, told, until, end))
            self._records += len(batch)
        return self._release(now)

    def finish(self) -> list[Sequence[Slices]]:
        """Return all queued batches at the end of a run; waits for texts one second at most."""
        if not self._waiting:
            return []
        self._texts.rules.wait(_PATIENCE / 1e9)
        time.sleep(max(self._waiting[-1].since - self._clock(), 0) / 1e9)
        return self._release(self._clock() + _PATIENCE_WHILE_READ)

    def _release(self, now: int) -> list[Sequence[Slices]]:
        released: list[Sequence[Slices]] = []
        heard = not self._waiting or self._texts.rules.hear()
        while self._waiting:
            first = self._waiting[0]
            lacking = self._lacking(first.asked)
            if self._may_wait(first, lacking, now):
                if lacking or now < first.since or not heard:
                    break
            else:
                self._give_up(lacking)
            self._waiting.popleft()
            self._records -= len(first.batch)
            released.append(first.batch if now >= first.since else self._untimed(first.batch))
        return released

    def _may_wait(self, first: _Waiting, lacking: Mapping[Handles, int], now: int) -> bool:
        """Return whether the first batch may still wait.

        Args:
            first: the oldest batch.
            lacking: its rules without text, each with the time of its last event.
            now: ns of CLOCK_MONOTONIC.
        """
        if self._records > _MOST or now >= first.end:
            return False
        is_read = self._texts.rules.is_read
        return now < first.until or any(is_read(rule[0], at) for rule, at in lacking.items())

    def _untimed(self, batch: Sequence[Slices]) -> Sequence[Slices]:
        """Make the rules of a batch that is released too early resolve to no text.

        Its nft events get a time right after boot, at which no rule was listed.
        """
        before, behind = self._at.start, self._at.stop
        return [
            (packet, func, ktime, flow, tail[:before] + _AT_BOOT + tail[behind:])
            for packet, func, ktime, flow, tail in batch
        ]

    def _asked(self, batch: Sequence[Slices]) -> dict[Handles, int]:
        said, at = self._said, self._at
        spoke = {tail[said]: tail[at] for _, _, _, _, tail in batch if tail[said] != NOTHING}
        named = ((self._texts.named(part), when) for part, when in spoke.items())
        return {rule: int.from_bytes(when, "little") for rule, when in named if rule}

    def _lacking(self, asked: Mapping[Handles, int]) -> dict[Handles, int]:
        """Return the rules that have no text yet and weren't given up."""
        changes = self._texts.rules.changes
        return {
            rule: at
            for rule, at in asked.items()
            if not self._has_text(rule, at) and not self._is_in_vain(rule, at, changes)
        }

    def _is_in_vain(self, rule: Handles, at: int, changes: int) -> bool:
        """Return whether a rule was given up, and no look-up can have a new result since."""
        given_up = self._in_vain.get(rule)
        return given_up is not None and (at <= given_up[0] or changes == given_up[1])

    def _has_text(self, rule: Handles, at: int) -> bool:
        found = self._texts.rules.rule(*rule, at=at)
        return found is not None and bool(found.text)

    def _give_up(self, rules: Mapping[Handles, int]) -> None:
        if len(self._in_vain) > _REMEMBERED:
            self._in_vain.clear()
        changes = self._texts.rules.changes
        self._in_vain |= {rule: (at, changes) for rule, at in rules.items()}
