"""Text of a traced function, with its drop reason if it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery.lifetime import DROPPING
from pypwru.events.record import constants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.resolve.reasons import Reasons

# Functions whose reason pwru prints even if it is no drop, and the tracepoint in them.
_ALWAYS = frozenset(("kfree_skb_reason", "sk_skb_reason_drop", "tp:kfree_skb"))
_SUFFIXES = {constants()["EVENT_TC"]: "(tc)", constants()["EVENT_XDP"]: "(xdp)"}


def spellings(name: str) -> frozenset[str]:
    """Return the names by which a user may refer to a printed function.

    Args:
        name: as printed: ``name``, ``name[module]`` or ``tp:name``.

    Returns:
        ``name`` itself, and ``name`` without its module and without ``tp:``.
    """
    return frozenset((name, name.partition("[")[0], name.removeprefix("tp:")))


class FunctionNames:
    """Names of traced functions.

    Args:
        names: targets: the address of a record, or the number of a tracepoint or BPF program ->
            name. Not copied; may grow during the trace.
        reasons: names of drop reasons.
    """

    def __init__(self, names: Mapping[int, str], reasons: Reasons) -> None:
        self._names = names
        self._reasons = reasons

    def text(self, address: int, reason: int, kind: int) -> str:
        """Return ``name``, ``name(SKB_DROP_REASON_NO_SOCKET)``, ``name (70000)``, ``name(tc)``, or
        ``0xffff...`` for an address that is no target.

        The form with a space is pwru's for a reason without a name. Functions that free a packet
        for any reason show the reason if it is a drop; functions that only drop packets always
        show it.

        Args:
            address: key of the targets.
            reason: ``enum skb_drop_reason`` of the record; 0 without one.
            kind: EVENT_* of bpf/event.h.
        """
        name = self._names.get(address) or f"{address:#x}"
        return name + self._behind(name, reason) + _SUFFIXES.get(kind, "")

    def drops(self, address: int, reason: int) -> bool:
        """Return whether the event drops its packet.

        Args:
            address: key of the targets.
            reason: ``enum skb_drop_reason`` of the record; 0 without one.
        """
        if self._names.get(address) in DROPPING:
            return self._reasons.ends_badly(reason)
        return self._reasons.is_drop(reason)

    def _behind(self, name: str, reason: int) -> str:
        always = name in _ALWAYS and self._reasons.known
        if not (always or self._reasons.is_drop(reason)):
            return ""
        word = self._reasons.word(reason)
        return f"({word})" if word else f" ({reason})"
