"""Batches that wait for the texts of their rules, with a fake clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pypwru.nft import text_delay
from pypwru.nft.record import RuleKey, decode_rule_key
from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.ruleset import RuleText
from pypwru.nft.text_delay import TextDelay
from pypwru.wire.record import RawRecord, Record
from tests.support import records
from tests.support.layouts import layout_of
from tests.support.records import HOST, POLICY, configured, event, flow, packet, tail

CONFIG = configured("--output-nft=text")
WIRE = layout_of(CONFIG)
SECOND, NOTIFIED = 1_000_000_000, 100_000_000
START = 10 * SECOND


class FakeRules:
    """Fake rules with known ``texts``, and a fake clock."""

    def __init__(self, **texts: str) -> None:
        self.texts = {int(name[1:]): RuleText(text, "") for name, text in texts.items()}
        self.requested: list[RuleKey] = []
        self.now = START
        self.revision = 0
        self.has_unread = False
        self.listing_until = 0
        self.waits: list[float] = []
        self.waited_for: dict[int, int] = {}

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        assert at is not None
        self.requested.append((netns, table, chain, rule))
        return self.texts.get(rule)

    def is_current(self, netns: int, at: int) -> bool:
        assert netns == HOST
        return self.now >= at + NOTIFIED and not self.has_unread

    def wait_current(self, times: Mapping[int, int], timeout: float) -> bool:
        self.waited_for = dict(times)
        return True

    def is_listing_pending(self, netns: int, at: int) -> bool:
        assert netns == HOST
        return self.listing_until > at

    def relist(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return True

    def wait_listed(self, timeout: float) -> bool:
        return True

    def clock(self) -> int:
        return self.now


class DelayStage:
    """A ``TextDelay`` and its output: the skb addresses of each batch."""

    def __init__(self, rules: FakeRules) -> None:
        self.rules = rules
        self.times: list[int] = []
        self.delay = TextDelay(RuleTexts(rules), WIRE, rules.clock)

    def take(self, *batch: Record) -> list[list[int]]:
        """Return the output for ``batch``."""
        return self._skbs(self.delay.take(batch))

    def finish(self) -> list[list[int]]:
        """Return the output at the end of the trace."""
        return self._skbs(self.delay.finish())

    def _skbs(self, batches: Sequence[Sequence[RawRecord]]) -> list[list[int]]:
        self.times += [int.from_bytes(one[4][80:], "little") for batch in batches for one in batch]
        return [[int.from_bytes(one[0][:8], "little") for one in batch] for batch in batches]

    def later(self, by: int) -> list[list[int]]:
        """Return the output without new events, ``by`` ns later."""
        self.rules.now += by
        return self.take()


def nft_event(skb: int, rule: int = 0, at: int = START, **more: Any) -> Record:
    part = records.nft(rule, **more) if rule or more else b""
    parts = {"nft": part, "nft_time": records.nft_time(at if part else 0)}
    return event(packet(skb, 0, 7), 3, flow(), at, tail=tail(CONFIG, **parts))


def test_events_without_rule_do_not_wait() -> None:
    stage = DelayStage(FakeRules())
    assert stage.take(nft_event(1), nft_event(2)) == [[1, 2]]
    assert stage.take(nft_event(3, type=POLICY), nft_event(4)) == [[3, 4]]
    assert stage.rules.requested == []


def test_known_text_waits_for_notifications() -> None:
    """Until then it may be that of the previous rule with this handle."""
    stage = DelayStage(FakeRules(_12="drop"))
    assert stage.take(nft_event(1, 12)) == []
    assert stage.later(NOTIFIED - 1) == []
    assert stage.later(1) == [[1]]


def test_batch_waits_for_last_event_of_rule() -> None:
    """A packet's later events have the time of its verdict."""
    stage = DelayStage(FakeRules(_12="drop"))
    assert stage.take(nft_event(1, 12), nft_event(2, 12, START - NOTIFIED)) == []
    assert stage.later(NOTIFIED - 1) == []
    assert stage.later(1) == [[1, 2]]


def test_unread_notifications_delay() -> None:
    stage = DelayStage(FakeRules(_12="drop"))
    stage.take(nft_event(1, 12))
    stage.rules.has_unread = True
    assert stage.later(NOTIFIED) == []
    stage.rules.has_unread = False
    assert stage.later(1) == [[1]]


def test_unknown_changes_delay_five_seconds() -> None:
    """The text may be that of the rule that had the handle before."""
    stage = DelayStage(FakeRules(_12="drop"))
    stage.rules.has_unread = True
    assert stage.take(nft_event(1, 12)) == []
    assert stage.later(5 * SECOND - 1) == []
    assert stage.later(1) == [[1]]
    assert stage.times == [1]
    stage.take(nft_event(2, 12, stage.rules.now))
    stage.rules.has_unread = False
    assert stage.later(NOTIFIED) == [[2]]
    assert stage.times == [1, START + 5 * SECOND]


def test_rule_is_requested_at_once() -> None:
    stage = DelayStage(FakeRules())
    stage.take(nft_event(1, 12), nft_event(2, 12), nft_event(3, 13))
    assert set(stage.rules.requested) == {(HOST, 7, 1, 12), (HOST, 7, 1, 13)}
    assert decode_rule_key(records.nft(12)) == (HOST, 7, 1, 12)


def test_batches_stay_in_order() -> None:
    stage = DelayStage(FakeRules(_13="accept"))
    assert stage.take(nft_event(1, 12)) == []
    assert stage.take(nft_event(2, 13)) == []
    assert stage.take(nft_event(3)) == []
    assert stage.later(NOTIFIED) == [], "12 is not known"
    stage.rules.texts[12] = RuleText("drop", "")
    assert stage.later(1) == [[1], [2], [3]]


def test_missing_rule_delays_once() -> None:
    stage = DelayStage(FakeRules())
    stage.take(nft_event(1, 12))
    assert stage.later(SECOND - 1) == []
    assert stage.later(1) == [[1]]
    assert stage.take(nft_event(2, 12, stage.rules.now)) == []
    assert stage.later(NOTIFIED) == [[2]]


def test_pending_listing_extends_the_delay() -> None:
    """After a reload of 20,000 rules, for example, which takes nft a second or two."""
    stage = DelayStage(FakeRules())
    stage.rules.listing_until = START + 2 * SECOND
    stage.take(nft_event(1, 12))
    assert stage.later(SECOND) == []
    stage.rules.texts[12] = RuleText("drop", "")
    assert stage.later(SECOND) == [[1]]
    assert stage.take(nft_event(2, 13, START)) == []
    assert stage.later(5 * SECOND - 1) == []
    assert stage.later(1) == [[2]], "but not for ever"
    assert stage.take(nft_event(3, 14, stage.rules.now)) == []
    assert stage.later(SECOND) == [[3]], "nothing is read that may have it"


def test_changed_rules_delay_again() -> None:
    stage = DelayStage(FakeRules())
    stage.take(nft_event(1, 12))
    assert stage.later(SECOND) == [[1]]
    stage.rules.revision += 1
    assert stage.take(nft_event(2, 12, START)) == [[2]], "but not for what was said before"
    assert stage.take(nft_event(3, 12, stage.rules.now)) == []
    assert stage.later(NOTIFIED) == []
    assert stage.later(SECOND) == [[3]]


def test_delayed_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_delay, "_MAX_RECORDS", 5)
    stage = DelayStage(FakeRules())
    assert stage.take(nft_event(1, 12), nft_event(2), nft_event(3)) == []
    assert stage.take(nft_event(4), nft_event(5), nft_event(6, 12)) == [[1, 2, 3]]
    assert stage.take(nft_event(7, 13)) == []
    assert stage.delay._records == 4
    assert stage.times == [1, 1, 1], "it isn't sure yet which rule it was"
    stage.later(2 * SECOND)
    assert stage.times[3:] == [0, 0, START, START]


def test_finish_waits_once_for_texts() -> None:
    stage = DelayStage(FakeRules())
    assert stage.finish() == []
    assert stage.rules.waits == [], "nothing is held"
    stage.take(nft_event(1, 12, START - NOTIFIED))
    stage.take(nft_event(2, 13, START - NOTIFIED))
    assert stage.finish() == [[1], [2]]
    assert stage.rules.waits == [1.0]
    assert stage.rules.waited_for == {HOST: START - NOTIFIED}
