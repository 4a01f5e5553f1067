"""Names of chains as they are printed, and the wait for rulesets, with fake rules."""

from __future__ import annotations

from collections.abc import Mapping

from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.ruleset import ChainText, RuleText
from pypwru.nft.service import NO_NFT_SOURCE, NftSource, name_bound_chains
from tests.support.records import RENAMED


class BoundChains:
    """Fake rules in which one chain is bound to a rule."""

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """Return the chain that is bound to rule 5."""
        return ChainText("inet", "t", "input#5") if (netns, table, chain) == (7, 1, 9) else None


def test_bound_chain_is_named_by_its_rule() -> None:
    names = {4: "input", 9 | RENAMED: "__chain12", 10: "__chain13"}
    named = name_bound_chains(lambda netns, table, chain: ("t", names[chain]), BoundChains())
    assert [named(7, 1, chain) for chain in names] == [
        ("t", "input"), ("t", "input#5"), ("t", "__chain13"),
    ]  # fmt: skip


class SlowRules:
    """Fake rules that are listed after ``polls`` calls."""

    revision = 0

    def __init__(self, polls: int) -> None:
        self.remaining = polls

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        return None

    def is_current(self, netns: int, at: int) -> bool:
        return True

    def wait_current(self, times: Mapping[int, int], timeout: float) -> bool:
        return True

    def is_listing_pending(self, netns: int, at: int) -> bool:
        return False

    def relist(self, timeout: float) -> bool:
        return True

    def wait_listed(self, timeout: float) -> bool:
        self.remaining -= 1
        return self.remaining <= 0


def test_wait_listed_has_a_limit() -> None:
    stops = iter([False] * 3 + [True])
    for polls, is_stopped, remaining in (
        (3, lambda: False, 0),
        (100, lambda: next(stops), 97),
        (100, lambda: False, 50),
    ):
        rules = SlowRules(polls)
        NftSource(NO_NFT_SOURCE.chain, RuleTexts(rules)).wait_listed(is_stopped)
        assert rules.remaining == remaining
    NO_NFT_SOURCE.wait_listed(lambda: False)
