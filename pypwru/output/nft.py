"""Text and JSON of nft events, and of the last verdict on a packet."""

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
_UNKNOWN = "..."  # chains for which the record has no room
_CONTINUE, _RETURN = -1, VERDICTS[-5]
ANOTHER = "conntrack, or another hook function"
"""What drops with reason NETFILTER_DROP without a verdict of a rule, policy or legacy table."""

ChainNames = Callable[[int, int, int], tuple[str, str]]
"""(inode of a network namespace, handle of a table, chain as in Nft) to the names of table and
chain; empty if unknown.
"""


class Said(NamedTuple):
    """``Nft`` with names; of type NO_RULE all names are empty.

    Args:
        nft: the numbers.
        family: of the table, as nft spells it.
        table: name.
        path: names of chains, from the base chain to the one of the rule; None for chains that the
            record had no room for.
        target: name of the chain of a jump or goto; empty if there is none.
        hook: of the base chain, as nft spells it.
        verdict: name; empty at the entry of a chain.
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
        """The handle of the rule; 0 for a policy, the end of a chain, or iptables-legacy."""
        return self.nft.rule if self.nft.type in (RULE, RETURN) else 0

    @property
    def is_another(self) -> bool:
        """True if a hook function that is neither nftables' nor iptables' dropped the packet."""
        return self.nft.type == NO_RULE

    @property
    def is_own(self) -> bool:
        """True for an nft event; False for an event of another kind with its packet's verdict."""
        return is_own(self.nft.kind)


def is_own(kind: int) -> bool:
    """Return whether an event of this kind (EVENT_* of bpf/event.h) is an nft event."""
    return kind in _OWN


def said(nft: Nft | None, names: ChainNames) -> Said | None:
    """Resolve the names of ``nft``; None if it is None."""
    if nft is None:
        return None
    if nft.type == NO_RULE:
        return Said(nft, "", "", (), "", "", "")
    if nft.kind in (_IN, _OUT):  # entry and exit of a chain are of no rule
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
    """Return a substitute for an unknown name: nft allows no name that begins with ``?``."""
    return f"?{handle}"


def _verdict(nft: Nft) -> str:
    if nft.kind == _IN:
        return ""
    # The end of a chain: NFT_TRACETYPE_RETURN, or NFT_TRACETYPE_RULE without a rule and with
    # NFT_CONTINUE (since Linux 5.19).
    if nft.type == RETURN or (nft.type == RULE and not nft.rule and nft.verdict == _CONTINUE):
        return _RETURN
    return verdict_word(nft.verdict)


def chain_text(what: Said) -> str:
    """Return the text of column NFT-CHAIN.

    ``inet filter web`` of an nft event, ``inet filter input -> web`` of a packet's verdict; empty
    without a rule.
    """
    if what.is_another:
        return ""
    return _chain_text(what, what.path[-1:] if what.is_own else what.path)


def chain_names(what: Said) -> Collection[str]:
    """Return all spellings of its chain: the bare name, and both forms of column NFT-CHAIN."""
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
    """Return the text of column NFT-RULE: ``handle 12 drop``, ``policy drop``, ``enter``, ...

    Of a packet's verdict the handle is written as ``#12 drop``.

    Args:
        what: the event.
        unknown: text to add after the handle.
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
    if what.nft.text:  # as nft lists it, which includes the comment
        return f": {what.nft.text}"
    return f' # "{what.nft.comment}"' if what.nft.comment else ""


def line(what: Said | None, mode: Mode) -> str:
    """Return both columns, and after them rule text or hook as ``mode`` selects; empty for None."""
    if what is None:
        return ""
    if what.is_another:
        return f"  {rule_text(what)}"
    unknown = mode is Mode.TEXT and bool(what.rule) and what.nft.text is None
    rule = rule_text(what, " (text unknown)" if unknown else "")
    return f"  {chain_text(what)}  {rule}{_behind(mode, what)}"


def members(what: Said | None) -> dict[str, object] | None:
    """Return the JSON object; members without value are left out.

    ``text`` is there for every rule, None if it is unknown.
    """
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
