"""Address of a function to its text, with the drop reason where it carries one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery.lifetime import DROPPING
from pypwru.events.record import constants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.resolve.reasons import Reasons

# Whose reason pwru always prints, and a tracepoint that is one of them.
_ALWAYS = frozenset(("kfree_skb_reason", "sk_skb_reason_drop", "tp:kfree_skb"))
_SUFFIXES = {constants()["EVENT_TC"]: "(tc)", constants()["EVENT_XDP"]: "(xdp)"}


def spellings(name: str) -> frozenset[str]:
    """What a user may call what is printed as ``name``: without its module, or ``tp:``, too."""
    return frozenset((name, name.partition("[")[0], name.removeprefix("tp:")))


class FunctionNames:
    """Names of traced functions.

    Args:
        names: the address that a record carries, or the number of a tracepoint or program, to name.
        reasons: words of drop reasons.
    """

    def __init__(self, names: Mapping[int, str], reasons: Reasons) -> None:
        self._names = names
        self._reasons = reasons

    def text(self, address: int, reason: int, kind: int) -> str:
        """``name``, ``name(SKB_DROP_REASON_NO_SOCKET)``, ``name (70000)``, ``name(tc)``, or
        ``0xffff...``.

        The form with a space is pwru's for a reason without a word. Functions that free a packet
        for any reason show it when it is a drop; those that only drop packets always do.

        Args:
            address: as in ``names``.
            reason: the record's, 0 without one.
            kind: EVENT_* of bpf/event.h.
        """
        name = self._names.get(address) or f"{address:#x}"
        return name + self._behind(name, reason) + _SUFFIXES.get(kind, "")

    def drops(self, address: int, reason: int) -> bool:
        """Whether this is the end of a packet that is thrown away; arguments as ``text``."""
        if self._names.get(address) in DROPPING:
            return self._reasons.ends_badly(reason)
        return self._reasons.is_drop(reason)

    def _behind(self, name: str, reason: int) -> str:
        always = name in _ALWAYS and self._reasons.known
        if not (always or self._reasons.is_drop(reason)):
            return ""
        word = self._reasons.word(reason)
        return f"({word})" if word else f" ({reason})"
