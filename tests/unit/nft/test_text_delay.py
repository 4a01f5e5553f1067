"""Batches that wait for the texts of their rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pypwru.nft import text_delay
from pypwru.nft.record import RuleKey, decode_rule_key
from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.ruleset import RuleText
from pypwru.nft.text_delay import TextDelay
from pypwru.wire.layout import record_layout
from pypwru.wire.record import RawRecord, Record
from tests.support import records
from tests.support.records import HOST, POLICY, configured, event, flow, packet, tail

CONFIG = configured("--output-nft=text")
WIRE = record_layout(CONFIG)
SECOND, TOLD = 1_000_000_000, 100_000_000
START = 10 * SECOND


class Known:
    """Rules, of which ``texts`` are known; and the time."""

    def __init__(self, **texts: str) -> None:
        self.texts = {int(name[1:]): RuleText(text, "") for name, text in texts.items()}
        self.asked: list[RuleKey] = []
        self.now = START
        self.revision = 0
        self.partial = False
        self.read_until = 0
        self.waits: list[float] = []
        self.waited_for: dict[int, int] = {}

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        assert at is not None
        self.asked.append((netns, table, chain, rule))
        return self.texts.get(rule)

    def is_current(self, netns: int, at: int) -> bool:
        assert netns == HOST
        return self.now >= at + TOLD and not self.partial

    def wait_current(self, times: Mapping[int, int], timeout: float) -> bool:
        self.waited_for = dict(times)
        return True

    def is_listing_pending(self, netns: int, at: int) -> bool:
        assert netns == HOST
        return self.read_until > at

    def relist(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return True

    def wait_listed(self, timeout: float) -> bool:
        return True

    def clock(self) -> int:
        return self.now


class Stage:
    """A ``Held``, and what came out of it: the skb addresses of each batch."""

    def __init__(self, rules: Known) -> None:
        self.rules = rules
        self.times: list[int] = []
        self.held = TextDelay(RuleTexts(rules), WIRE, rules.clock)

    def take(self, *batch: Record) -> list[list[int]]:
        """What comes out when ``batch`` is given."""
        return self._seen(self.held.take(batch))

    def finish(self) -> list[list[int]]:
        """What comes out in the end."""
        return self._seen(self.held.finish())

    def _seen(self, batches: Sequence[Sequence[RawRecord]]) -> list[list[int]]:
        self.times += [int.from_bytes(one[4][80:], "little") for batch in batches for one in batch]
        return [[int.from_bytes(one[0][:8], "little") for one in batch] for batch in batches]

    def later(self, by: int) -> list[list[int]]:
        """What comes out of it by itself, ``by`` ns later."""
        self.rules.now += by
        return self.take()


def seen(skb: int, rule: int = 0, at: int = START, **more: Any) -> Record:
    part = records.nft(rule, **more) if rule or more else b""
    parts = {"nft": part, "nft_time": records.nft_time(at if part else 0)}
    return event(packet(skb, 0, 7), 3, flow(), at, tail=tail(CONFIG, **parts))


def test_what_names_no_rule_is_shown_at_once() -> None:
    stage = Stage(Known())
    assert stage.take(seen(1), seen(2)) == [[1, 2]]
    assert stage.take(seen(3, type=POLICY), seen(4)) == [[3, 4]]
    assert stage.rules.asked == []


def test_a_known_text_is_believed_once_the_kernel_has_told_of_changes() -> None:
    """Until then it may be that of the rule that had the handle before."""
    stage = Stage(Known(_12="drop"))
    assert stage.take(seen(1, 12)) == []
    assert stage.later(TOLD - 1) == []
    assert stage.later(1) == [[1]]


def test_what_counts_is_the_last_time_at_which_a_rule_spoke() -> None:
    """A packet that it judged earlier may have a line behind that, with the earlier time."""
    stage = Stage(Known(_12="drop"))
    assert stage.take(seen(1, 12), seen(2, 12, START - TOLD)) == []
    assert stage.later(TOLD - 1) == []
    assert stage.later(1) == [[1, 2]]


def test_it_is_not_believed_while_there_is_more_to_hear() -> None:
    stage = Stage(Known(_12="drop"))
    stage.take(seen(1, 12))
    stage.rules.partial = True
    assert stage.later(TOLD) == []
    stage.rules.partial = False
    assert stage.later(1) == [[1]]


def test_while_changes_may_be_unknown_it_waits_five_seconds_and_is_shown_without_a_text() -> None:
    """The text that is known may be that of the rule that had the handle before."""
    stage = Stage(Known(_12="drop"))
    stage.rules.partial = True
    assert stage.take(seen(1, 12)) == []
    assert stage.later(5 * SECOND - 1) == []
    assert stage.later(1) == [[1]]
    assert stage.times == [1]
    stage.take(seen(2, 12, stage.rules.now))
    stage.rules.partial = False
    assert stage.later(TOLD) == [[2]]
    assert stage.times == [1, START + 5 * SECOND]


def test_a_rule_is_asked_for_as_soon_as_it_is_seen() -> None:
    stage = Stage(Known())
    stage.take(seen(1, 12), seen(2, 12), seen(3, 13))
    assert set(stage.rules.asked) == {(HOST, 7, 1, 12), (HOST, 7, 1, 13)}
    assert decode_rule_key(records.nft(12)) == (HOST, 7, 1, 12)


def test_batches_wait_in_their_order() -> None:
    stage = Stage(Known(_13="accept"))
    assert stage.take(seen(1, 12)) == []
    assert stage.take(seen(2, 13)) == []
    assert stage.take(seen(3)) == []
    assert stage.later(TOLD) == [], "12 is not known"
    stage.rules.texts[12] = RuleText("drop", "")
    assert stage.later(1) == [[1], [2], [3]]


def test_it_waits_a_second_and_for_a_rule_in_vain_only_once() -> None:
    stage = Stage(Known())
    stage.take(seen(1, 12))
    assert stage.later(SECOND - 1) == []
    assert stage.later(1) == [[1]]
    assert stage.take(seen(2, 12, stage.rules.now)) == []
    assert stage.later(TOLD) == [[2]]


def test_it_waits_longer_while_rules_are_read() -> None:
    """As after a reload of 20,000 rules, which take nft a second or two."""
    stage = Stage(Known())
    stage.rules.read_until = START + 2 * SECOND
    stage.take(seen(1, 12))
    assert stage.later(SECOND) == []
    stage.rules.texts[12] = RuleText("drop", "")
    assert stage.later(SECOND) == [[1]]
    assert stage.take(seen(2, 13, START)) == []
    assert stage.later(5 * SECOND - 1) == []
    assert stage.later(1) == [[2]], "but not for ever"
    assert stage.take(seen(3, 14, stage.rules.now)) == []
    assert stage.later(SECOND) == [[3]], "nothing is read that may have it"


def test_it_waits_again_when_rules_have_changed() -> None:
    stage = Stage(Known())
    stage.take(seen(1, 12))
    assert stage.later(SECOND) == [[1]]
    stage.rules.revision += 1
    assert stage.take(seen(2, 12, START)) == [[2]], "but not for what was said before"
    assert stage.take(seen(3, 12, stage.rules.now)) == []
    assert stage.later(TOLD) == []
    assert stage.later(SECOND) == [[3]]


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_delay, "_MAX_RECORDS", 5)
    stage = Stage(Known())
    assert stage.take(seen(1, 12), seen(2), seen(3)) == []
    assert stage.take(seen(4), seen(5), seen(6, 12)) == [[1, 2, 3]]
    assert stage.take(seen(7, 13)) == []
    assert stage.held._records == 4
    assert stage.times == [1, 1, 1], "it isn't sure yet which rule it was"
    stage.later(2 * SECOND)
    assert stage.times[3:] == [0, 0, START, START]


def test_the_end_waits_for_texts_and_then_shows_everything() -> None:
    stage = Stage(Known())
    assert stage.finish() == []
    assert stage.rules.waits == [], "nothing is held"
    stage.take(seen(1, 12, START - TOLD))
    stage.take(seen(2, 13, START - TOLD))
    assert stage.finish() == [[1], [2]]
    assert stage.rules.waits == [1.0]
    assert stage.rules.waited_for == {HOST: START - TOLD}
