"""Text of a traced function, with its drop reason if it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery.skb_lifetime import DROP_TARGETS
from pypwru.wire.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.names.drop_reasons import DropReasons

# Functions whose reason pwru prints even if it is no drop, and the tracepoint in them.
_HAVE_DROP_REASON = frozenset(("kfree_skb_reason", "sk_skb_reason_drop", "tp:kfree_skb"))
_SUFFIXES = {number: kind.suffix for number, kind in KINDS.items()}


def name_aliases(name: str) -> frozenset[str]:
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
        targets: address in a record -> name, of the run.
        reasons: names of drop reasons.
    """

    def __init__(self, targets: Mapping[int, str], reasons: DropReasons) -> None:
        self._targets = targets
        self._reasons = reasons

    def text(self, address: int, reason: int, kind: int) -> str:
        """Return the name of an event's function, with its drop reason.

        It is ``name``, ``name(SKB_DROP_REASON_NO_SOCKET)``, ``name (70000)``, ``name(tc)``, or
        ``0xffff...`` for an address that is no target.

        The form with a space is pwru's for a reason without a name. Functions that free a packet
        for any reason show the reason if it is a drop; functions that only drop packets always
        show it.

        Args:
            address: key of the targets.
            reason: ``enum skb_drop_reason`` of the record; 0 without one.
            kind: EVENT_* of bpf/event.h.
        """
        name = self._targets.get(address) or f"{address:#x}"
        return name + self._reason_suffix(name, reason) + _SUFFIXES.get(kind, "")

    def is_drop(self, address: int, reason: int) -> bool:
        """Return whether the event drops its packet.

        Args:
            address: key of the targets.
            reason: ``enum skb_drop_reason`` of the record; 0 without one.
        """
        if self._targets.get(address) in DROP_TARGETS:
            return self._reasons.is_drop_on_free(reason)
        return self._reasons.is_drop_reason(reason)

    def _reason_suffix(self, name: str, reason: int) -> str:
        always = name in _HAVE_DROP_REASON and self._reasons.has_reasons
        if not (always or self._reasons.is_drop_reason(reason)):
            return ""
        reason_name = self._reasons.reason_name(reason)
        return f"({reason_name})" if reason_name else f" ({reason})"
