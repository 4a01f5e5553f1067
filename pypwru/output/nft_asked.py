"""The match of nft events against --filter-nft-*."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pypwru.discovery.re2 import found_in
from pypwru.kernel.nft_words import REJECT, VERDICTS, verdict_word
from pypwru.output.nft import ChainNames, Said, chain_names, is_own, said
from pypwru.output.nft_part import NO_RULE, NOTHING, nft
from pypwru.output.parts import KIND
from pypwru.resolve.ruleset import rejects

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.events.wire import Wire
    from pypwru.output.rule_texts import RuleTexts

_KEPT, _KEPT_TEXTS = 1 << 12, 1 << 10
_DROP, _STOLEN = VERDICTS[0], VERDICTS[2]


class Asked:
    """The criteria of --filter-nft-*; a rule or policy must match all of them.

    Args:
        config: of the run.
        wire: the layout of its records.
        chains: names of tables and chains.
        texts: of rules; None if the run needs no rule texts.
    """

    def __init__(
        self, config: Config, wire: Wire, chains: ChainNames, texts: RuleTexts | None
    ) -> None:
        part = wire.parts["nft"]
        self._said = slice(part.offset, part.offset + part.size)
        at = wire.parts.get("nft_at", part)
        self._at = slice(at.offset, at.offset + at.size)
        self._conditions = _conditions(config)
        expression = config.filter_nft_text
        self._finds = lru_cache(_KEPT_TEXTS)(found_in(expression)) if expression else None
        verdicts = config.filter_nft_verdict
        self._drops_if_rejects = REJECT in verdicts and _DROP not in verdicts
        self._chains = chains
        self._texts = texts
        self._known: dict[bytes, bool] = {}

    def meets(self, record: Slices) -> bool:
        """Return whether the nft event of a record, or its packet's last verdict, matches."""
        part = record[4][self._said]
        if part == NOTHING or not self._fits(part):
            return False
        must_reject = self._drops_if_rejects and _drops(part)
        if self._texts is None or not (self._finds or must_reject):
            return True
        text = self._texts.text(part, int.from_bytes(record[4][self._at], "little"))
        if text is None or (must_reject and not rejects(text.text)):
            return False
        return self._finds is None or any(map(self._finds, text))

    def judges(self, record: Slices) -> bool | None:
        """Return whether the packet has a stored verdict from this record on.

        Returns:
            True: it has one. False: an nft event that stores none (entry of a chain, an NFT_*
            verdict, NF_STOLEN), or a drop by a hook that isn't nftables'; whether the packet has an
            earlier one is unknown. None: an event of another kind, without verdict.
        """
        part = record[4][self._said]
        kind = int.from_bytes(record[0][KIND], "little")
        if part == NOTHING:
            return False if is_own(kind) else None
        spoken = nft(part)
        if not is_own(kind):
            return bool(spoken and spoken.type != NO_RULE)
        if spoken is None or not spoken.type or spoken.verdict < 0:
            return False
        return verdict_word(spoken.verdict) != _STOLEN  # the hook function owns it now

    def _fits(self, part: bytes) -> bool:
        """Return whether a part matches all criteria but those on the rule text; cached."""
        fits = self._known.get(part)
        if fits is None:
            what = said(nft(part), self._chains)
            fits = what is not None and what.nft.type not in (0, NO_RULE)
            fits = fits and all(holds(what) for holds in self._conditions if what)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[part] = fits
        return fits


def _drops(part: bytes) -> bool:
    spoken = nft(part)
    return spoken is not None and verdict_word(spoken.verdict) == _DROP


def _conditions(config: Config) -> list[Callable[[Said], bool]]:
    verdicts, tables = config.filter_nft_verdict, config.filter_nft_table
    chains, handle = config.filter_nft_chain, config.filter_nft_handle
    found: list[Callable[[Said], bool]] = []
    if verdicts:
        if REJECT in verdicts:
            verdicts = (*verdicts, _DROP)
        found.append(lambda what: what.verdict in verdicts)
    if tables:
        found.append(lambda what: what.table in tables or f"{what.family} {what.table}" in tables)
    if chains:
        found.append(lambda what: any(name in chains for name in chain_names(what)))
    if handle:
        found.append(lambda what: what.rule == handle)
    return found
