"""Where the names and texts of a run's nftables come from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.output.nft import ChainNames
    from pypwru.output.rule_texts import RuleTexts
    from pypwru.resolve.ruleset import RuleText


class NftSource(NamedTuple):
    """Names and texts.

    Args:
        chain: names of tables and chains.
        texts: of rules; None where nobody asks for them.
    """

    chain: ChainNames
    texts: RuleTexts | None = None

    def rule(self, part: bytes, at: int) -> RuleText | None:
        """What the rule says that a part names."""
        return self.texts.text(part, at) if self.texts else None


NO_NFT = NftSource(lambda netns, table, chain: ("", ""))


@contextmanager
def nft_source(config: Config, maps: Mapping[str, int], log: Log) -> Iterator[NftSource]:
    """The source of a run.

    Args:
        maps: name -> descriptor, of the run's maps.
        log: told what keeps texts from being known.
    """
    if not config.asks_nft:
        yield NO_NFT
        return
    from pypwru.resolve.nft_names import NftNames

    names = NftNames(maps["nft_names"]).names
    if not config.asks_rules:
        yield NftSource(names)
        return
    from pypwru.output.rule_texts import RuleTexts
    from pypwru.resolve.rules import Rules

    with Rules(log.warn) as rules:
        yield NftSource(names, RuleTexts(rules))
