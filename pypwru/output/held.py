"""Batches wait, in their order, until the texts of the rules in them are known.

A text is found out by another thread: the ring is read on meanwhile, and what was read before a
text is known stands here. It stands for a second at most, and for some while its text is being
read, then the rule is shown without its text.
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
_PATIENCE_WHILE_READ = 5_000_000_000
_REMEMBERED = 1 << 12  # rules that were waited for in vain
# ns from the moment that a rule is in use to that in which the kernel has told of it: earlier, the
# text of the rule that had its handle before would be believed.
_TOLD = 100_000_000
_AT_BOOT = NFT_AT.pack(1)


class _Waiting(NamedTuple):
    """A batch.

    Args:
        asked: rules to when they spoke last in it.
        since: when all that changed before it is told of; ns.
        until: it isn't held any longer, but for a text that is being read; ns.
        end: nor for that; ns.
    """

    batch: Sequence[Slices]
    asked: dict[Handles, int]
    since: int
    until: int
    end: int


class Held:
    """A stage between the ring and what shows records.

    Args:
        texts: of rules.
        wire: the layout of records.
        clock: CLOCK_MONOTONIC, ns.
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
        self._in_vain: dict[Handles, tuple[int, int]] = {}  # until which time, by which changes

    def take(self, batch: Sequence[Slices]) -> list[Sequence[Slices]]:
        """Hold a batch, and give those whose time has come.

        Args:
            batch: may be empty, as it should be from time to time while none comes.
        """
        now = self._clock()
        if batch:
            asked = self._asked(batch)
            self._lacking(asked)  # and so they are looked for
            told = max(asked.values(), default=0) + _TOLD
            until, end = now + _PATIENCE, now + _PATIENCE_WHILE_READ
            self._waiting.append(_Waiting(batch, asked, told, until, end))
            self._records += len(batch)
        return self._release(now)

    def finish(self) -> list[Sequence[Slices]]:
        """Give all that is held; waits for texts a second at most."""
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
        """Whether it may be held longer."""
        if self._records > _MOST or now >= first.end:
            return False
        is_read = self._texts.rules.is_read
        return now < first.until or any(is_read(rule[0], at) for rule, at in lacking.items())

    def _untimed(self, batch: Sequence[Slices]) -> Sequence[Slices]:
        """A batch that has to go too early: no rule has a text that early in the kernel's life."""
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
        """Rules whose text isn't known, and may be soon."""
        changes = self._texts.rules.changes
        return {
            rule: at
            for rule, at in asked.items()
            if not self._has_text(rule, at) and not self._is_in_vain(rule, at, changes)
        }

    def _is_in_vain(self, rule: Handles, at: int, changes: int) -> bool:
        """Whether it was waited for, and nothing is known since that wasn't then."""
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
