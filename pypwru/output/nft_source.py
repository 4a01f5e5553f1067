"""Where the names and texts of a run's nftables come from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pypwru.output.nft_part import chain_handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pypwru.config import Config
    from pypwru.kernel.kallsyms import Symbols
    from pypwru.log import Log
    from pypwru.output.nft import ChainNames
    from pypwru.output.rule_texts import RuleTexts
    from pypwru.resolve.ruleset import ChainText, RuleText

_LOOK, _MOST_LOOKS = 0.1, 50  # seconds that rules are waited for at once, and how often
_EVALUATES = "nft_do_chain"
_BOUND = "__chain"  # and a number: how the kernel names the chain of `jump { ... }`


class NftSource(NamedTuple):
    """Names and texts.

    Args:
        chain: names of tables and chains.
        texts: of rules; None where nobody asks for them.
    """

    chain: ChainNames
    texts: RuleTexts | None = None

    def rule(self, part: bytes, at: int) -> RuleText | None:
        """What the rule says that a part names, as it is shown."""
        return self.texts.shown(part, at) if self.texts else None

    def wait_listed(self, is_stopped: Callable[[], bool]) -> None:
        """Until rules are listed that were there at the start, for some seconds at most.

        Args:
            is_stopped: whether to wait no longer.
        """
        for _ in range(_MOST_LOOKS):
            if not self.texts or is_stopped() or self.texts.rules.wait_listed(_LOOK):
                return


NO_NFT = NftSource(lambda netns, table, chain: ("", ""))


@contextmanager
def nft_source(
    config: Config, maps: Mapping[str, int], symbols: Symbols | None, netns: int, log: Log
) -> Iterator[NftSource]:
    """The source of a run.

    Args:
        maps: name -> descriptor, of the run's maps.
        symbols: of the kernel; None only where nftables isn't asked.
        netns: inode of the only namespace that is traced; 0 for any.
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
    from pypwru.kernel.modules import load_of
    from pypwru.output.rule_texts import RuleTexts
    from pypwru.resolve.rules import Rules

    is_built_in = bool(symbols and symbols.addresses(_EVALUATES))

    def is_there() -> bool:
        return is_built_in or bool(load_of("nf_tables"))

    with Rules(log.warn, is_there, netns) as rules:
        yield NftSource(with_bound(names, rules), RuleTexts(rules))


class Chains(Protocol):
    """What is known of chains: ``pypwru.resolve.rules``, and a stand-in in tests."""

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """A chain; None while it isn't known."""


def with_bound(names: ChainNames, rules: Chains) -> ChainNames:
    """``names``, in which a chain that is bound to a rule has the rule's, as ``input#5``."""

    def named(netns: int, table: int, chain: int) -> tuple[str, str]:
        table_name, name = names(netns, table, chain)
        is_bound = name.startswith(_BOUND)
        listed = rules.chain(netns, table, chain_handle(chain)) if is_bound else None
        return table_name, listed.chain if listed else name

    return named
