"""The match of nft events against --filter-nft-*."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pypwru.bounded_memo import BoundedMemo
from pypwru.kernel.netfilter import REJECT, VERDICTS, verdict_name
from pypwru.nft.record import EMPTY_NFT, NO_RULE, decode_nft
from pypwru.nft.render import ChainNames, NftEvent, chain_aliases, decode
from pypwru.nft.ruleset import has_reject
from pypwru.regexp.re2 import compile_search

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.nft.rule_key import RuleTexts
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_MAX_PARTS, _MAX_TEXTS = 1 << 12, 1 << 10
_DROP = VERDICTS[0]


class NftCriteria(NamedTuple):
    """The values of --filter-nft-*; an empty one, or handle 0, matches any event.

    Args:
        verdicts: names of verdicts, ``reject`` included.
        tables: names, with or without family, as ``filter`` or ``inet filter``.
        chains: names, as of ``chain_aliases``.
        handle: of the rule.
        text: RE2 pattern found in the text or comment of the rule.
    """

    verdicts: tuple[str, ...]
    tables: tuple[str, ...]
    chains: tuple[str, ...]
    handle: int
    text: str


class NftMatcher:
    """The match of nft events; a rule or policy must match all criteria.

    Args:
        criteria: of the run.
        layout: the layout of its records.
        chains: names of tables and chains.
        texts: of rules; None if the run needs no rule texts.
    """

    def __init__(
        self,
        criteria: NftCriteria,
        layout: RecordLayout,
        chains: ChainNames,
        texts: RuleTexts | None,
    ) -> None:
        part = layout.parts["nft"]
        self._nft = part.as_slice
        nft_time = layout.parts.get("nft_time", part)
        self._nft_time = nft_time.as_slice
        self._conditions = _make_conditions(criteria)
        self._text_matches = (
            lru_cache(_MAX_TEXTS)(compile_search(criteria.text)) if criteria.text else None
        )
        verdicts = criteria.verdicts
        self._drop_must_reject = REJECT in verdicts and _DROP not in verdicts
        self._chains = chains
        self._texts = texts
        self._matches_without_text = BoundedMemo(self._match_part, _MAX_PARTS)

    def matches(self, record: RawRecord) -> bool:
        """Return whether the nft event of a record, or its packet's last verdict, matches."""
        part = record[4][self._nft]
        if part == EMPTY_NFT or not self._matches_without_text[part]:
            return False
        must_reject = self._drop_must_reject and _is_drop(part)
        if self._texts is None or not (self._text_matches or must_reject):
            return True
        text = self._texts.text(part, int.from_bytes(record[4][self._nft_time], "little"))
        if text is None or (must_reject and not has_reject(text.text)):
            return False
        return self._text_matches is None or any(map(self._text_matches, text))

    def _match_part(self, part: bytes) -> bool:
        """Return whether a part matches all criteria but those on the rule text."""
        event = decode(decode_nft(part), self._chains)
        if event is None or event.nft.type in (0, NO_RULE):
            return False
        return all(condition(event) for condition in self._conditions)


def _is_drop(part: bytes) -> bool:
    event = decode_nft(part)
    return event is not None and verdict_name(event.verdict) == _DROP


def _make_conditions(criteria: NftCriteria) -> list[Callable[[NftEvent], bool]]:
    verdicts, tables, chains, handle, _ = criteria
    found: list[Callable[[NftEvent], bool]] = []
    if verdicts:
        if REJECT in verdicts:
            verdicts = (*verdicts, _DROP)
        found.append(lambda event: event.verdict in verdicts)
    if tables:
        found.append(
            lambda event: event.table in tables or f"{event.family} {event.table}" in tables
        )
    if chains:
        found.append(lambda event: any(name in chains for name in chain_aliases(event)))
    if handle:
        found.append(lambda event: event.rule == handle)
    return found
