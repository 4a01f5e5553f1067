"""Names of chains, as they are shown, from a map and rules that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping

from pypwru.nft.rule_key import RuleTexts
from pypwru.nft.ruleset import ChainText, RuleText
from pypwru.nft.service import NO_NFT_SOURCE, NftSource, name_bound_chains
from tests.support.records import RENAMED


class Listed:
    """Rules of which one chain is known."""

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """A chain that is bound to the rule 5."""
        return ChainText("inet", "t", "input#5") if (netns, table, chain) == (7, 1, 9) else None


def test_a_chain_that_is_bound_to_a_rule_has_the_name_of_the_rule() -> None:
    names = {4: "input", 9 | RENAMED: "__chain12", 10: "__chain13"}
    named = name_bound_chains(lambda netns, table, chain: ("t", names[chain]), Listed())
    assert [named(7, 1, chain) for chain in names] == [
        ("t", "input"), ("t", "input#5"), ("t", "__chain13"),
    ]  # fmt: skip


class Slow:
    """Rules whose listing takes a while."""

    revision = 0

    def __init__(self, looks: int) -> None:
        self.left = looks

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
        self.left -= 1
        return self.left <= 0


def test_what_is_there_is_waited_for_but_not_for_ever() -> None:
    stops = iter([False] * 3 + [True])
    for looks, is_stopped, left in (
        (3, lambda: False, 0),
        (100, lambda: next(stops), 97),
        (100, lambda: False, 50),
    ):
        rules = Slow(looks)
        NftSource(NO_NFT_SOURCE.chain, RuleTexts(rules)).wait_listed(is_stopped)
        assert rules.left == left
    NO_NFT_SOURCE.wait_listed(lambda: False)
