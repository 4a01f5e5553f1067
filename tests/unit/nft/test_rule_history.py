"""Texts of rules by handle and time, from made-up listings and commits."""

from __future__ import annotations

import pytest

from pypwru.nft import rule_history
from pypwru.nft.list_ruleset import RulesetSnapshot
from pypwru.nft.monitor import Commit, RuleKey
from pypwru.nft.rule_history import RuleHistory
from pypwru.nft.ruleset import Chain, ChainText, Rule, RuleText, Table


def add_snapshot(
    history: RuleHistory, generation: int, start: int, end: int, table: int = 1, /, **rules: str
) -> None:
    """Add table ``ip t`` with chain 1 ``c``; rules as ``r5="text"``, by handle."""
    texts = {int(name[1:]): text for name, text in rules.items()}
    chain = Chain(ChainText("ip", "t", "c"), [Rule(handle) for handle in texts])
    by_key = {(table, 1, handle): text for handle, text in texts.items() if text}
    tables = {table: Table("ip", "t", {1: chain})}
    history.add_snapshot(
        RulesetSnapshot(generation, generation, tables, by_key, (), start, end, True)
    )


def text_at(history: RuleHistory, rule: int, at: int, table: int = 1) -> str | None:
    found = history.find((table, 1, rule), at)
    assert found is None or isinstance(found, RuleText)
    return found and found.text


def texts_at(history: RuleHistory, rule: int, *times: int) -> list[str | None]:
    return [text_at(history, rule, at) for at in times]


def make_commit(generation: int, *handles: int) -> Commit:
    return Commit(generation, {RuleKey("ip", "t", handle) for handle in handles})


@pytest.fixture
def history() -> RuleHistory:
    result = RuleHistory()
    result.subscribed_at = 0
    add_snapshot(result, 1, 10, 20, r2="accept", r3="drop")
    return result


def test_deleted_rule_keeps_its_text(history: RuleHistory) -> None:
    add_snapshot(history, 2, 30, 40, r3="drop", r4="new")
    assert [text_at(history, rule, 50) for rule in (2, 3, 4, 5)] == ["accept", "drop", "new", None]
    assert history.find((1, 1), 50) == ChainText("ip", "t", "c")
    assert history.find((1, 2), 50) is None


def test_validity_of_a_listing(history: RuleHistory) -> None:
    assert history.valid_until == 20
    history.extend_validity(25)
    assert (history.generation, history.valid_until) == (1, 25)
    history.record_commit(make_commit(2, 2), 0, 40)
    assert texts_at(history, 2, 20, 30) == ["accept", None]
    add_snapshot(history, 3, 50, 60, r2="drop")
    history.extend_validity(55)
    assert history.valid_until == 60


def test_replaced_during_listing_has_no_text(
    history: RuleHistory,
) -> None:
    """The texts of the other rules are right, even if more has changed meanwhile."""
    history.record_commit(make_commit(2, 2), 25, 45)
    chain = Chain(ChainText("ip", "t", "c"), [Rule(2), Rule(3), Rule(4)])
    keys = {(1, 1, handle): text for handle, text in ((2, "old?"), (3, "drop"), (4, "new"))}
    listing = RulesetSnapshot(1, 2, {1: Table("ip", "t", {1: chain})}, keys, (), 30, 40, False)
    history.add_snapshot(listing)
    assert history.generation == -1 and history.valid_until == 0
    assert texts_at(history, 2, 15, 25, 35, 50) == ["accept", "accept", None, None]
    assert texts_at(history, 3, 15, 35, 50) == texts_at(history, 3, 35, 35, 35) == ["drop"] * 3
    assert texts_at(history, 4, 35, 50) == ["new", "new"]
    add_snapshot(history, 2, 50, 60, r2="reject", r3="drop", r4="new")
    assert texts_at(history, 2, 15, 35, 50) == ["accept", None, "reject"]


def test_before_subscription_no_text(history: RuleHistory) -> None:
    history.subscribed_at = 15
    assert texts_at(history, 2, 14, 15, 100) == [None, "accept", "accept"]
    assert history.find((1, 1), 14) == ChainText("ip", "t", "c")
    assert text_at(RuleHistory(), 2, 100) is None


def test_replaced_rule(history: RuleHistory) -> None:
    history.record_commit(make_commit(2, 2), 100, 200)
    assert texts_at(history, 2, 50, 100, 101, 199, 200) == ["accept", "accept", None, None, None]
    assert text_at(history, 3, 150) == "drop"
    add_snapshot(history, 2, 210, 220, r2="return", r3="drop")
    assert texts_at(history, 2, 100, 101, 199, 200, 999) == [
        "accept",
        None,
        None,
        "return",
        "return",
    ]
    add_snapshot(history, 3, 300, 310)
    assert texts_at(history, 2, 100, 150, 200) == ["accept", None, "return"]


def test_two_replacements_before_a_listing(history: RuleHistory) -> None:
    history.record_commit(make_commit(2, 2), 100, 200)
    history.record_commit(make_commit(3, 2), 300, 400)
    add_snapshot(history, 3, 410, 420, r2="accept")
    assert texts_at(history, 2, 100, 250, 400) == ["accept", None, "accept"]


def test_listing_between_two_replacements(history: RuleHistory) -> None:
    history.record_commit(make_commit(2, 2), 100, 200)
    add_snapshot(history, 2, 210, 220, r2="middle")
    # Still valid at the end of the listing, though the notification may have been late.
    history.record_commit(make_commit(3, 2), 150, 400)
    assert texts_at(history, 2, 100, 200, 220, 221, 400) == [
        "accept",
        "middle",
        "middle",
        None,
        None,
    ]
    add_snapshot(history, 3, 410, 420, r2="last")
    assert texts_at(history, 2, 100, 210, 221, 400) == ["accept", "middle", None, "last"]


def test_commit_read_after_its_listing(history: RuleHistory) -> None:
    add_snapshot(history, 2, 80, 90, r2="return")
    assert texts_at(history, 2, 20, 21, 79, 80) == ["accept", None, None, "return"]
    assert history.generation == 2
    history.record_commit(make_commit(2, 2), 60, 120)
    assert texts_at(history, 2, 20, 90, 120) == ["accept", None, None]
    assert history.generation == -1  # it has to be listed again
    add_snapshot(history, 2, 130, 140, r2="return")
    assert texts_at(history, 2, 20, 90, 120) == ["accept", None, "return"]
    assert history.generation == 2


def test_equal_text_is_another_rule(history: RuleHistory) -> None:
    history.record_commit(make_commit(2, 2), 100, 200)
    history.record_commit(make_commit(3, 2), 300, 400)
    add_snapshot(history, 3, 500, 510, r2="accept")
    history.record_commit(make_commit(4, 2), 600, 700)
    add_snapshot(history, 4, 800, 810, r2="accept")
    assert texts_at(history, 2, 100, 250, 450, 650, 700) == [
        "accept",
        None,
        "accept",
        None,
        "accept",
    ]


def test_lost_notifications(history: RuleHistory) -> None:
    history.mark_uncertain(100, 200)
    assert texts_at(history, 2, 100, 101, 200) == ["accept", None, None]
    assert history.find((1, 1), 150) == ChainText("ip", "t", "c")
    assert history.generation == -1
    add_snapshot(
        history, 5, 150, 190, r2="accept", r3="return"
    )  # it ended before the loss was noticed
    assert texts_at(history, 3, 100, 160, 260) == ["drop", None, None]
    assert history.generation == -1
    add_snapshot(history, 6, 195, 280, r2="accept", r3="return")
    assert texts_at(history, 3, 100, 150, 200, 280) == ["drop", None, "return", "return"]
    assert history.generation == 6


def test_texts_may_come_later() -> None:
    history = RuleHistory()
    history.subscribed_at = 0
    add_snapshot(history, 1, 10, 20, r2="")
    assert text_at(history, 2, 15) == ""
    add_snapshot(history, 2, 30, 40, r2="accept")
    assert text_at(history, 2, 15) == "accept"
    add_snapshot(history, 3, 50, 60, r2="")
    assert texts_at(history, 2, 15, 60) == ["accept", "accept"]


def test_partial_listing_is_repeated(history: RuleHistory) -> None:
    assert history.generation == 1
    history.add_snapshot(RulesetSnapshot(2, 2, {}, {}, (), 30, 40, False))
    assert history.generation == -1
    assert text_at(history, 2, 50) == "accept"


def test_deleted_rules_are_bounded(history: RuleHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_history, "_MAX_DELETED_SIZE", 5000)
    for number in range(4, 40):
        add_snapshot(history, number, number * 10, number * 10 + 1, **{f"r{number}": "x" * 500})
    found = [rule for rule in range(2, 40) if text_at(history, rule, 999) is not None]
    assert found == list(range(33, 40))


def test_versions_are_bounded(history: RuleHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        history.record_commit(make_commit(2, 2), 100 + number * 10, 105 + number * 10)
    (changes,) = history._replaced.values()
    assert len(changes) == rule_history._MAX_VERSIONS
    assert texts_at(history, 2, 100, 101, 500, 1200) == ["accept", None, None, None]
    assert text_at(history, 3, 500) == "drop"
    monkeypatch.setattr(rule_history, "_MAX_REPLACED", 10)
    for number in range(100):
        history.record_commit(make_commit(3, 1000 + number), 2000, 2010 + number)
        assert len(history._replaced) <= 10
    assert texts_at(history, 3, 100, 101, 3000) == ["drop", None, None]  # more than _MAX_REPLACED
    add_snapshot(history, 9, 4000, 4010, r3="drop")
    assert texts_at(history, 3, 3000, 4000) == ["drop", "drop"]
