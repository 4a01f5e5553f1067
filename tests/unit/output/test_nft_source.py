"""Names of chains, as they are shown, from a map and rules that a test makes up."""

from __future__ import annotations

from pypwru.output.nft_source import with_bound
from pypwru.resolve.ruleset import ChainText


class Listed:
    """Rules of which one chain is known."""

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """A chain that is bound to the rule 5."""
        return ChainText("inet", "t", "input#5") if (netns, table, chain) == (7, 1, 9) else None


def test_a_chain_that_is_bound_to_a_rule_has_the_name_of_the_rule() -> None:
    names = {4: "input", 9: "__chain12", 10: "__chain13"}
    named = with_bound(lambda netns, table, chain: ("t", names[chain]), Listed())
    assert [named(7, 1, chain) for chain in names] == [
        ("t", "input"), ("t", "input#5"), ("t", "__chain13"),
    ]  # fmt: skip
