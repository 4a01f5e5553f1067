"""Address of a function to its text, with the drop reason where it carries one."""

from __future__ import annotations

from collections.abc import Collection, Mapping


class FunctionNames:
    """Names of traced functions.

    Args:
        names: the address that a record carries, or a tracepoint's number, to name.
        reasons: value of ``enum skb_drop_reason`` to word, as ``resolve.reasons`` makes it.
        carriers: those of ``names`` whose record has a drop reason.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        reasons: Mapping[int, str],
        carriers: Collection[int] = (),
    ) -> None:
        self._names = names
        self._reasons = reasons
        self._carriers = frozenset(carriers)

    def text(self, address: int, reason: int) -> str:
        """``name``, ``name(SKB_DROP_REASON_NO_SOCKET)``, ``name (70000)``, or ``0xffff...``.

        The form with a space is pwru's for a reason without a word: those of subsystems such as
        mac80211, whose enums are their own.

        Args:
            address: as in ``names``.
            reason: the record's, 0 without one.
        """
        name = self._names.get(address) or f"{address:#x}"
        if address not in self._carriers:
            return name
        word = self._reasons.get(reason)
        return f"{name}({word})" if word else f"{name} ({reason})"
