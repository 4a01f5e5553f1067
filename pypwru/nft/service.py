"""The source of chain names and rule texts of a run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pypwru.nft.record import chain_handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.kernel.kallsyms import Symbols
    from pypwru.log import Log
    from pypwru.nft.render import ChainNames
    from pypwru.nft.rule_key import RuleTexts
    from pypwru.nft.ruleset import ChainText, RuleText

_WAIT_SECONDS, _MAX_WAITS = 0.1, 50  # seconds of one wait for listings, and the number of waits
_NFT_DO_CHAIN = "nft_do_chain"
_ANONYMOUS_CHAIN_PREFIX = (
    "__chain"  # then a number: the kernel's name of the anonymous chain of `jump { ... }`
)


class NftSource(NamedTuple):
    """Look-ups of names and texts.

    Args:
        chain: names of tables and chains.
        texts: rule texts; None if the run needs none.
    """

    chain: ChainNames
    texts: RuleTexts | None = None

    def rule(self, part: bytes, at: int) -> RuleText | None:
        """Return the rule text for output; None if there is no rule, or it is unknown.

        Args:
            part: ``struct part_nft``, and anything after it.
            at: time of the nft event, ns of CLOCK_MONOTONIC.
        """
        return self.texts.display_text(part, at) if self.texts else None

    def wait_listed(self, is_stopped: Callable[[], bool]) -> None:
        """Wait until the rules that exist at the start are listed, for 5 seconds at most.

        Args:
            is_stopped: True ends the wait.
        """
        for _ in range(_MAX_WAITS):
            if not self.texts or is_stopped() or self.texts.rules.wait_listed(_WAIT_SECONDS):
                return


NO_NFT_SOURCE = NftSource(lambda netns, table, chain: ("", ""))


@contextmanager
def open_nft_source(
    names_map: int, symbols: Symbols | None, netns: int, log: Log, *, needs_rule_text: bool
) -> Iterator[NftSource]:
    """Open the source of a run that traces nft events; the rule service stops on the way out.

    Args:
        names_map: descriptor of the map ``nft_names``.
        symbols: of the kernel; None counts as a kernel without built-in nf_tables.
        netns: inode of the only namespace that is traced; 0: all.
        log: receives warnings if rule texts can't be listed.
        needs_rule_text: whether the source has rule texts, too.

    Yields:
        The source.
    """
    from pypwru.nft.chain_names import NftNames

    names = NftNames(names_map).resolve
    if not needs_rule_text:
        yield NftSource(names)
        return
    from pypwru.kernel.module_instance import module_instance_id
    from pypwru.nft.rule_key import RuleTexts
    from pypwru.nft.rule_service import RuleService

    is_built_in = bool(symbols and symbols.addresses(_NFT_DO_CHAIN))

    def has_nf_tables() -> bool:
        return is_built_in or bool(module_instance_id("nf_tables"))

    with RuleService(log.warn, has_nf_tables, netns) as rules:
        yield NftSource(name_bound_chains(names, rules), RuleTexts(rules))


class ChainLookup(Protocol):
    """Look-up of listed chains: ``pypwru.nft.rule_service``, and a stub in tests."""

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """Return a chain; None while it is unknown.

        Args:
            netns: inode of the network namespace.
            table: handle.
            chain: handle.
        """


def name_bound_chains(names: ChainNames, rules: ChainLookup) -> ChainNames:
    """Wrap ``names``: a chain that is bound to a rule is named after the rule, as ``input#5``."""

    def name_chain(netns: int, table: int, chain: int) -> tuple[str, str]:
        table_name, name = names(netns, table, chain)
        is_bound = name.startswith(_ANONYMOUS_CHAIN_PREFIX)
        listed = rules.chain(netns, table, chain_handle(chain)) if is_bound else None
        return table_name, listed.chain if listed else name

    return name_chain
