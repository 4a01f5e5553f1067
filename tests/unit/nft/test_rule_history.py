"""What is known under the handles of rules, from listings and commits that a test makes up."""

from __future__ import annotations

import pytest

from pypwru.nft import rule_history
from pypwru.nft.list_ruleset import RulesetSnapshot
from pypwru.nft.monitor import Commit, RuleKey
from pypwru.nft.rule_history import RuleHistory
from pypwru.nft.ruleset import Chain, ChainText, Rule, RuleText, Table


def put(
    memory: RuleHistory, generation: int, began: int, ended: int, table: int = 1, /, **rules: str
) -> None:
    """A table ``ip t`` with a chain 1 ``c``; rules as ``r5="text"``, by handle."""
    texts = {int(name[1:]): text for name, text in rules.items()}
    chain = Chain(ChainText("ip", "t", "c"), [Rule(handle) for handle in texts])
    by_key = {(table, 1, handle): text for handle, text in texts.items() if text}
    tables = {table: Table("ip", "t", {1: chain})}
    memory.add_snapshot(
        RulesetSnapshot(generation, generation, tables, by_key, (), began, ended, True)
    )


def text(memory: RuleHistory, rule: int, at: int, table: int = 1) -> str | None:
    found = memory.find((table, 1, rule), at)
    assert found is None or isinstance(found, RuleText)
    return found and found.text


def texts(memory: RuleHistory, rule: int, *times: int) -> list[str | None]:
    return [text(memory, rule, at) for at in times]


def replaced(generation: int, *handles: int) -> Commit:
    return Commit(generation, {RuleKey("ip", "t", handle) for handle in handles})


@pytest.fixture
def memory() -> RuleHistory:
    made = RuleHistory()
    made.subscribed_at = 0
    put(made, 1, 10, 20, r2="accept", r3="drop")
    return made


def test_what_a_listing_lacks_is_remembered(memory: RuleHistory) -> None:
    put(memory, 2, 30, 40, r3="drop", r4="new")
    assert [text(memory, rule, 50) for rule in (2, 3, 4, 5)] == ["accept", "drop", "new", None]
    assert memory.find((1, 1), 50) == ChainText("ip", "t", "c")
    assert memory.find((1, 2), 50) is None


def test_until_when_a_listing_is_known_to_be_right(memory: RuleHistory) -> None:
    assert memory.valid_until == 20
    memory.extend_validity(25)
    assert (memory.generation, memory.valid_until) == (1, 25)
    memory.record_commit(replaced(2, 2), 0, 40)
    assert texts(memory, 2, 20, 30) == ["accept", None]
    put(memory, 3, 50, 60, r2="drop")
    memory.extend_validity(55)
    assert memory.valid_until == 60


def test_of_a_rule_that_was_replaced_while_it_was_listed_no_text_is_known(
    memory: RuleHistory,
) -> None:
    """Of the others the text is right, whatever else has changed meanwhile."""
    memory.record_commit(replaced(2, 2), 25, 45)
    chain = Chain(ChainText("ip", "t", "c"), [Rule(2), Rule(3), Rule(4)])
    keys = {(1, 1, handle): text for handle, text in ((2, "old?"), (3, "drop"), (4, "new"))}
    listing = RulesetSnapshot(1, 2, {1: Table("ip", "t", {1: chain})}, keys, (), 30, 40, False)
    memory.add_snapshot(listing)
    assert memory.generation == -1 and memory.valid_until == 0
    assert texts(memory, 2, 15, 25, 35, 50) == ["accept", "accept", None, None]
    assert texts(memory, 3, 15, 35, 50) == texts(memory, 3, 35, 35, 35) == ["drop"] * 3
    assert texts(memory, 4, 35, 50) == ["new", "new"]
    put(memory, 2, 50, 60, r2="reject", r3="drop", r4="new")
    assert texts(memory, 2, 15, 35, 50) == ["accept", None, "reject"]


def test_what_spoke_before_changes_were_told_is_not_known(memory: RuleHistory) -> None:
    memory.subscribed_at = 15
    assert texts(memory, 2, 14, 15, 100) == [None, "accept", "accept"]
    assert memory.find((1, 1), 14) == ChainText("ip", "t", "c")
    assert text(RuleHistory(), 2, 100) is None


def test_a_rule_in_the_place_of_another(memory: RuleHistory) -> None:
    memory.record_commit(replaced(2, 2), 100, 200)
    assert texts(memory, 2, 50, 100, 101, 199, 200) == ["accept", "accept", None, None, None]
    assert text(memory, 3, 150) == "drop"
    put(memory, 2, 210, 220, r2="return", r3="drop")
    assert texts(memory, 2, 100, 101, 199, 200, 999) == ["accept", None, None, "return", "return"]
    put(memory, 3, 300, 310)
    assert texts(memory, 2, 100, 150, 200) == ["accept", None, "return"]


def test_twice_before_a_listing(memory: RuleHistory) -> None:
    memory.record_commit(replaced(2, 2), 100, 200)
    memory.record_commit(replaced(3, 2), 300, 400)
    put(memory, 3, 410, 420, r2="accept")
    assert texts(memory, 2, 100, 250, 400) == ["accept", None, "accept"]


def test_a_listing_between_two(memory: RuleHistory) -> None:
    memory.record_commit(replaced(2, 2), 100, 200)
    put(memory, 2, 210, 220, r2="middle")
    # It was still so at the end of the listing, though the kernel may have told late.
    memory.record_commit(replaced(3, 2), 150, 400)
    assert texts(memory, 2, 100, 200, 220, 221, 400) == ["accept", "middle", "middle", None, None]
    put(memory, 3, 410, 420, r2="last")
    assert texts(memory, 2, 100, 210, 221, 400) == ["accept", "middle", None, "last"]


def test_a_commit_heard_after_the_listing_that_has_it(memory: RuleHistory) -> None:
    put(memory, 2, 80, 90, r2="return")
    assert texts(memory, 2, 20, 21, 79, 80) == ["accept", None, None, "return"]
    assert memory.generation == 2
    memory.record_commit(replaced(2, 2), 60, 120)
    assert texts(memory, 2, 20, 90, 120) == ["accept", None, None]
    assert memory.generation == -1  # it has to be seen again
    put(memory, 2, 130, 140, r2="return")
    assert texts(memory, 2, 20, 90, 120) == ["accept", None, "return"]
    assert memory.generation == 2


def test_an_equal_rule_is_another(memory: RuleHistory) -> None:
    memory.record_commit(replaced(2, 2), 100, 200)
    memory.record_commit(replaced(3, 2), 300, 400)
    put(memory, 3, 500, 510, r2="accept")
    memory.record_commit(replaced(4, 2), 600, 700)
    put(memory, 4, 800, 810, r2="accept")
    assert texts(memory, 2, 100, 250, 450, 650, 700) == ["accept", None, "accept", None, "accept"]


def test_what_was_told_was_lost(memory: RuleHistory) -> None:
    memory.mark_uncertain(100, 200)
    assert texts(memory, 2, 100, 101, 200) == ["accept", None, None]
    assert memory.find((1, 1), 150) == ChainText("ip", "t", "c")
    assert memory.generation == -1
    put(memory, 5, 150, 190, r2="accept", r3="return")  # it ended before the loss was noticed
    assert texts(memory, 3, 100, 160, 260) == ["drop", None, None]
    assert memory.generation == -1
    put(memory, 6, 195, 280, r2="accept", r3="return")
    assert texts(memory, 3, 100, 150, 200, 280) == ["drop", None, "return", "return"]
    assert memory.generation == 6


def test_texts_come_after_the_rest() -> None:
    memory = RuleHistory()
    memory.subscribed_at = 0
    put(memory, 1, 10, 20, r2="")
    assert text(memory, 2, 15) == ""
    put(memory, 2, 30, 40, r2="accept")
    assert text(memory, 2, 15) == "accept"
    put(memory, 3, 50, 60, r2="")
    assert texts(memory, 2, 15, 60) == ["accept", "accept"]


def test_what_was_only_in_part_listed_is_listed_again(memory: RuleHistory) -> None:
    assert memory.generation == 1
    memory.add_snapshot(RulesetSnapshot(2, 2, {}, {}, (), 30, 40, False))
    assert memory.generation == -1
    assert text(memory, 2, 50) == "accept"


def test_what_is_gone_is_kept_up_to_a_size(
    memory: RuleHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_history, "_MAX_DELETED_SIZE", 5000)
    for number in range(4, 40):
        put(memory, number, number * 10, number * 10 + 1, **{f"r{number}": "x" * 500})
    known = [rule for rule in range(2, 40) if text(memory, rule, 999) is not None]
    assert known == list(range(33, 40))


def test_what_is_kept_of_changes_is_bounded_and_never_forgotten(
    memory: RuleHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        memory.record_commit(replaced(2, 2), 100 + number * 10, 105 + number * 10)
    (changes,) = memory._replaced.values()
    assert len(changes) == rule_history._MAX_VERSIONS
    assert texts(memory, 2, 100, 101, 500, 1200) == ["accept", None, None, None]
    assert text(memory, 3, 500) == "drop"
    monkeypatch.setattr(rule_history, "_MAX_REPLACED", 10)
    for number in range(100):
        memory.record_commit(replaced(3, 1000 + number), 2000, 2010 + number)
        assert len(memory._replaced) <= 10
    assert texts(memory, 3, 100, 101, 3000) == ["drop", None, None]  # too much at once
    put(memory, 9, 4000, 4010, r3="drop")
    assert texts(memory, 3, 3000, 4000) == ["drop", "drop"]
