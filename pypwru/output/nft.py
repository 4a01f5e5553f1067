"""What nftables said, in words: of the rule or chain itself, and of a packet that carries it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from pypwru.config import Nft as Mode
from pypwru.events.record import constants
from pypwru.kernel.nft_words import VERDICTS, family_word, hook_word, verdict_word
from pypwru.output.nft_part import LEGACY, NO_RULE, POLICY, RETURN, RULE, Nft, chain_handle

_RULE, _IN, _OUT = (constants()[f"EVENT_NFT_{name}"] for name in ("RULE", "IN", "OUT"))
_OWN = frozenset((_RULE, _IN, _OUT))
_ARROW = " -> "
_UNKNOWN = "..."  # chains between those that a record has room for
_CONTINUE, _RETURN = -1, VERDICTS[-5]
ANOTHER = "conntrack, or another hook function"
"""Whose a drop with reason NETFILTER_DROP is where no rule, policy or table was."""

ChainNames = Callable[[int, int, int], tuple[str, str]]
"""(inode of a network namespace, handle of a table, chain as of Nft) to their names; empty where
they aren't known.
"""


class Said(NamedTuple):
    """What was said; of NO_RULE the numbers alone.

    Args:
        nft: the numbers.
        family: word of the table's.
        table: name.
        path: names of chains, the base chain first and the one that spoke last; None for those
            that aren't known.
        target: name of the chain that is jumped to; empty for none.
        hook: word of the base chain's.
        verdict: word; empty where a chain is entered.
    """

    nft: Nft
    family: str
    table: str
    path: tuple[str | None, ...]
    target: str
    hook: str
    verdict: str

    @property
    def rule(self) -> int:
        """Handle of the rule that spoke; 0: there is none."""
        return self.nft.rule if self.nft.type in (RULE, RETURN) else 0

    @property
    def is_another(self) -> bool:
        """Whether a hook's function that isn't nftables' or iptables' drops the packet."""
        return self.nft.type == NO_RULE

    @property
    def is_own(self) -> bool:
        """Whether the event is about what was said, not about a packet that carries it."""
        return is_own(self.nft.kind)


def is_own(kind: int) -> bool:
    """Whether an event of this kind is nftables' own."""
    return kind in _OWN


def said(nft: Nft | None, names: ChainNames) -> Said | None:
    """What was said; None for nothing."""
    if nft is None:
        return None
    if nft.type == NO_RULE:
        return Said(nft, "", "", (), "", "", "")
    if nft.kind in (_IN, _OUT):  # no rule speaks
        nft = nft._replace(type=0, rule=0, target=0)
    family = family_word(nft.family)
    hook = hook_word(family, nft.hook)
    table, chain = names(nft.netns, nft.table, nft.chain)
    if nft.type == LEGACY:
        chain = hook.upper()

    def name(chain: int) -> str:
        return names(nft.netns, nft.table, chain)[1] or _unnamed(chain_handle(chain))

    above: list[str | None] = [name(chain) for chain in nft.path if chain]
    above += [None] * (nft.depth - len(above))
    return Said(
        nft,
        family,
        table or _unnamed(nft.table),
        (*above, chain or _unnamed(chain_handle(nft.chain))),
        name(nft.target) if nft.target else "",
        hook,
        _verdict(nft),
    )


def _unnamed(handle: int) -> str:
    """No name of a table or chain begins so."""
    return f"?{handle}"


def _verdict(nft: Nft) -> str:
    if nft.kind == _IN:
        return ""
    # The end of a chain; since Linux 5.19 the kernel says `rule`, and NFT_CONTINUE.
    if nft.type == RETURN or (nft.type == RULE and not nft.rule and nft.verdict == _CONTINUE):
        return _RETURN
    return verdict_word(nft.verdict)


def chain_text(what: Said) -> str:
    """The column NFT-CHAIN: ``inet filter web``, or of a packet ``inet filter input -> web``."""
    if what.is_another:
        return ""
    return _chain_text(what, what.path[-1:] if what.is_own else what.path)


def chain_names(what: Said) -> Collection[str]:
    """What its chain is called: its name, and as the column has it of the chain or of a packet."""
    return what.path[-1] or "", _chain_text(what, what.path[-1:]), _chain_text(what, what.path)


def _chain_text(what: Said, path: tuple[str | None, ...]) -> str:
    return f"{what.family} {what.table} {_ARROW.join(_gaps(path))}"


def _gaps(path: tuple[str | None, ...]) -> Iterator[str]:
    for before, name in zip((_UNKNOWN, *path), path, strict=False):
        if name is not None:
            yield name
        elif before is not None:
            yield _UNKNOWN


def rule_text(what: Said, unknown: str = "") -> str:
    """The column NFT-RULE: ``handle 12 drop``, of a packet ``#12 drop``, ``policy drop``, ...

    Args:
        unknown: stands behind the handle.
    """
    if what.is_another:
        return f"no rule seen: {ANOTHER}"
    target = f" {what.target}" if what.target else ""
    return f"{_speaker(what, unknown)}{what.verdict}{target}".rstrip()


def _speaker(what: Said, unknown: str) -> str:
    nft = what.nft
    if nft.kind in (_IN, _OUT):
        return "enter " if nft.kind == _IN else "exit "
    if nft.type in (POLICY, LEGACY):
        return "policy " if nft.type == POLICY else "legacy "
    handle = f"{what.rule}{unknown}"
    if not what.rule:
        if nft.type == RETURN or nft.verdict == _CONTINUE:
            return ""
        handle = "?"  # of bpf/nft_eval.h
    return f"handle {handle} " if what.is_own else f"#{handle} "


def _behind(mode: Mode, what: Said) -> str:
    if mode is Mode.HOOK:
        return f"  {what.hook}/{what.nft.priority}"
    if mode is not Mode.TEXT or not what.rule:
        return ""
    if what.nft.text:  # with its comment, as nft lists it
        return f": {what.nft.text}"
    return f' # "{what.nft.comment}"' if what.nft.comment else ""


def line(what: Said | None, mode: Mode) -> str:
    """Both columns and what is asked for behind them; empty where nothing was said."""
    if what is None:
        return ""
    if what.is_another:
        return f"  {rule_text(what)}"
    unknown = mode is Mode.TEXT and bool(what.rule) and what.nft.text is None
    rule = rule_text(what, " (text unknown)" if unknown else "")
    return f"  {chain_text(what)}  {rule}{_behind(mode, what)}"


def members(what: Said | None) -> dict[str, object] | None:
    """The same as an object of JSON, without what there is none of; ``text`` is None if unknown."""
    if what is None:
        return None
    if what.is_another:
        return {"no_rule": ANOTHER}
    nft = what.nft
    found: dict[str, object] = {
        "family": what.family,
        "table": what.table,
        "chain": what.path[-1],
        "chain_handle": chain_handle(nft.chain) or None,
        "rule_handle": what.rule or None,
        "verdict": what.verdict or None,
        "policy": what.verdict if nft.type == POLICY else None,
        "target": what.target or None,
        "depth": nft.depth,
        "hook": what.hook,
        "priority": nft.priority,
        "comment": nft.comment or None,
        "path": what.path,
    }
    found = {name: value for name, value in found.items() if value is not None}
    return found | ({"text": nft.text} if what.rule else {})
