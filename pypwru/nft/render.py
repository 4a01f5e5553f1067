"""Text and JSON of nft events, and of the last verdict on a packet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from pypwru.config import NftOutput as Mode
from pypwru.kernel.netfilter import VERDICTS, family_name, hook_name, verdict_name
from pypwru.nft.record import LEGACY, NO_RULE, POLICY, RETURN, RULE, NftPart, chain_handle
from pypwru.wire.kinds import KINDS, NFT_CHAIN_ENTRY, NFT_CHAIN_EXIT, NFT_RULE

_NFT_RULE, _CHAIN_ENTRY, _CHAIN_EXIT = (
    kind.number for kind in (NFT_RULE, NFT_CHAIN_ENTRY, NFT_CHAIN_EXIT)
)
_NFT_KINDS = frozenset(number for number, kind in KINDS.items() if kind.is_nft)
_ARROW = " -> "
_ELLIPSIS = "..."  # chains for which the record has no room
_CONTINUE, _RETURN = -1, VERDICTS[-5]
OTHER_HOOK = "conntrack, or another hook function"
"""What drops with reason NETFILTER_DROP without a verdict of a rule, policy or legacy table."""

ChainNames = Callable[[int, int, int], tuple[str, str]]
"""(inode of a network namespace, handle of a table, chain as in Nft) to the names of table and
chain; empty if unknown.
"""


class NftEvent(NamedTuple):
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

    nft: NftPart
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
    def is_other_hook(self) -> bool:
        """True if a hook function that is neither nftables' nor iptables' dropped the packet."""
        return self.nft.type == NO_RULE

    @property
    def is_nft_event(self) -> bool:
        """True for an nft event; False for an event of another kind with its packet's verdict."""
        return is_nft_event(self.nft.kind)


def is_nft_event(kind: int) -> bool:
    """Return whether an event of this kind (EVENT_* of bpf/event.h) is an nft event."""
    return kind in _NFT_KINDS


def decode(nft: NftPart | None, names: ChainNames) -> NftEvent | None:
    """Resolve the names of ``nft``; None if it is None."""
    if nft is None:
        return None
    if nft.type == NO_RULE:
        return NftEvent(nft, "", "", (), "", "", "")
    if nft.kind in (_CHAIN_ENTRY, _CHAIN_EXIT):  # entry and exit of a chain are of no rule
        nft = nft._replace(type=0, rule=0, target=0)
    family = family_name(nft.family)
    hook = hook_name(family, nft.hook)
    table, chain = names(nft.netns, nft.table, nft.chain)
    if nft.type == LEGACY:
        chain = hook.upper()

    def chain_name(chain: int) -> str:
        return names(nft.netns, nft.table, chain)[1] or _name_from_handle(chain_handle(chain))

    outer: list[str | None] = [chain_name(chain) for chain in nft.path if chain]
    outer += [None] * (nft.depth - len(outer))
    return NftEvent(
        nft,
        family,
        table or _name_from_handle(nft.table),
        (*outer, chain or _name_from_handle(chain_handle(nft.chain))),
        chain_name(nft.target) if nft.target else "",
        hook,
        _verdict_name(nft),
    )


def _name_from_handle(handle: int) -> str:
    """Return a substitute for an unknown name: nft allows no name that begins with ``?``."""
    return f"?{handle}"


def _verdict_name(nft: NftPart) -> str:
    if nft.kind == _CHAIN_ENTRY:
        return ""
    # The end of a chain: NFT_TRACETYPE_RETURN, or NFT_TRACETYPE_RULE without a rule and with
    # NFT_CONTINUE (since Linux 5.19).
    if nft.type == RETURN or (nft.type == RULE and not nft.rule and nft.verdict == _CONTINUE):
        return _RETURN
    return verdict_name(nft.verdict)


def chain_text(event: NftEvent) -> str:
    """Return the text of column NFT-CHAIN.

    ``inet filter web`` of an nft event, ``inet filter input -> web`` of a packet's verdict; empty
    without a rule.
    """
    if event.is_other_hook:
        return ""
    return _chain_text(event, event.path[-1:] if event.is_nft_event else event.path)


def chain_aliases(event: NftEvent) -> Collection[str]:
    """Return all spellings of its chain: the bare name, and both forms of column NFT-CHAIN."""
    return event.path[-1] or "", _chain_text(event, event.path[-1:]), _chain_text(event, event.path)


def _chain_text(event: NftEvent, path: tuple[str | None, ...]) -> str:
    return f"{event.family} {event.table} {_ARROW.join(_elide_unknown(path))}"


def _elide_unknown(path: tuple[str | None, ...]) -> Iterator[str]:
    for before, name in zip((_ELLIPSIS, *path), path, strict=False):
        if name is not None:
            yield name
        elif before is not None:
            yield _ELLIPSIS


def rule_text(event: NftEvent, handle_suffix: str = "") -> str:
    """Return the text of column NFT-RULE: ``handle 12 drop``, ``policy drop``, ``enter``, ...

    Of a packet's verdict the handle is written as ``#12 drop``.

    Args:
        event: the event.
        handle_suffix: text to add after the handle.
    """
    if event.is_other_hook:
        return f"no rule seen: {OTHER_HOOK}"
    target = f" {event.target}" if event.target else ""
    return f"{_rule_prefix(event, handle_suffix)}{event.verdict}{target}".rstrip()


def _rule_prefix(event: NftEvent, handle_suffix: str) -> str:
    nft = event.nft
    if nft.kind in (_CHAIN_ENTRY, _CHAIN_EXIT):
        return "enter " if nft.kind == _CHAIN_ENTRY else "exit "
    if nft.type in (POLICY, LEGACY):
        return "policy " if nft.type == POLICY else "legacy "
    handle = f"{event.rule}{handle_suffix}"
    if not event.rule:
        if nft.type == RETURN or nft.verdict == _CONTINUE:
            return ""
        handle = "?"  # of bpf/nft/nft_eval.h
    return f"handle {handle} " if event.is_nft_event else f"#{handle} "


def _suffix(mode: Mode, event: NftEvent) -> str:
    if mode is Mode.HOOK:
        return f"  {event.hook}/{event.nft.priority}"
    if mode is not Mode.TEXT or not event.rule:
        return ""
    if event.nft.text:  # as nft lists it, which includes the comment
        return f": {event.nft.text}"
    return f' # "{event.nft.comment}"' if event.nft.comment else ""


def line(event: NftEvent | None, mode: Mode) -> str:
    """Return both columns, and after them rule text or hook as ``mode`` selects; empty for None."""
    if event is None:
        return ""
    if event.is_other_hook:
        return f"  {rule_text(event)}"
    is_text_unknown = mode is Mode.TEXT and bool(event.rule) and event.nft.text is None
    rule = rule_text(event, " (text unknown)" if is_text_unknown else "")
    return f"  {chain_text(event)}  {rule}{_suffix(mode, event)}"


def members(event: NftEvent | None) -> dict[str, object] | None:
    """Return the JSON object; members without value are left out.

    ``text`` is there for every rule, None if it is unknown.
    """
    if event is None:
        return None
    if event.is_other_hook:
        return {"no_rule": OTHER_HOOK}
    nft = event.nft
    found: dict[str, object] = {
        "family": event.family,
        "table": event.table,
        "chain": event.path[-1],
        "chain_handle": chain_handle(nft.chain) or None,
        "rule_handle": event.rule or None,
        "verdict": event.verdict or None,
        "policy": event.verdict if nft.type == POLICY else None,
        "target": event.target or None,
        "depth": nft.depth,
        "hook": event.hook,
        "priority": nft.priority,
        "comment": nft.comment or None,
        "path": event.path,
    }
    found = {name: value for name, value in found.items() if value is not None}
    return found | ({"text": nft.text} if event.rule else {})
