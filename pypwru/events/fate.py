"""Classify a packet as dropped or consumed, by its events. Later events override earlier ones.

A function that drops one of several references to an sk_buff does not free it: the owner of the
last reference may free it much later, as a process does that reads its socket, and by a function
that is neither a drop nor a consume. Records have a flag for other references (``is_shared``).

One drop has several events: tcp_drop_reason() calls sk_skb_reason_drop(), and that calls
skb_release_data(), each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pypwru.discovery.lifetime import CONSUMING, DROPPING
from pypwru.events.drop_flag import ends_nothing
from pypwru.events.lives import KIND
from pypwru.events.record import EVENT, Slices, constants

_TASK = slice(8, None)
"""pid, CPU, kind and task, in the packet part."""
_ADDRESS, _REASON = slice(0, 8), slice(8, 12)
"""In the func part; the upper half of the reason is not part of the enum."""
_FUNCTION = constants()["EVENT_FUNCTION"].to_bytes(EVENT["kind"].size, "little")
_NESTED = 10_000_000  # ns, in which a function that drops has called all others that do
_KEPT = 1 << 14

Drops = Callable[[int, int], bool]
"""Returns whether a function drops packets, by its address and the drop reason (0: none)."""


class Nest:
    """One drop: the event of the outermost function that drops a packet, and of those it calls.

    Args:
        record: the event of the outermost function.
    """

    def __init__(self, record: Slices) -> None:
        packet, func, self._since, _, _ = record
        self._by = packet[_TASK] + func[_REASON]
        self._functions = {func[_ADDRESS]}

    def takes(self, record: Slices) -> bool:
        """Return whether this event reports the same drop, and remember its function.

        It does if task, CPU and reason are the same, within 10 ms. The same function a second time
        means that the address was reused, for another packet.

        Args:
            record: a later event of a drop, at the same address.
        """
        packet, func, ktime, _, _ = record
        is_same = packet[_TASK] + func[_REASON] == self._by and ktime - self._since < _NESTED
        if not is_same or func[_ADDRESS] in self._functions:
            return False
        self._functions.add(func[_ADDRESS])
        return True


class Words:
    """Classifies events as drops, consumes, or neither.

    Args:
        names: address in a record -> name, of all attached targets. The caller owns it, and adds
            targets while tracing.
        drops: whether a function with a drop reason drops packets.
    """

    def __init__(self, names: Mapping[int, str], drops: Drops) -> None:
        self._names = names
        self._drops = drops
        self._known: dict[bytes, bool | None] = {}

    def of(self, record: Slices) -> bool | None:
        """Return whether an event drops its packet.

        Returns:
            True for a drop, False for a function that frees without one, None for all others, and
            for a drop that frees no packet (``ends_nothing``).
        """
        if record[0][KIND] != _FUNCTION:
            return None
        word = self._of_function(record[1])
        return None if word and ends_nothing(record[3]) else word

    def _of_function(self, func: bytes) -> bool | None:
        """Classify a func part; results are cached, and the cache is emptied when it is full."""
        if func in self._known:
            return self._known[func]
        if len(self._known) >= _KEPT:
            self._known.clear()
        word = self._known[func] = self._word(
            int.from_bytes(func[_ADDRESS], "little"), int.from_bytes(func[_REASON], "little")
        )
        return word

    def _word(self, address: int, reason: int) -> bool | None:
        if self._drops(address, reason):
            return True
        return False if self._names.get(address) in CONSUMING | DROPPING else None


class Fate:
    """Outcome of one packet so far."""

    __slots__ = ("_nest", "drop")

    def __init__(self) -> None:
        self.drop: Slices | None = None
        """The event of the outermost function of the last drop; None if it is not dropped."""
        self._nest: Nest | None = None

    def hear(self, record: Slices, drops: bool | None) -> None:
        """Update the outcome by another event.

        Args:
            record: the event.
            drops: its class, as of ``Words.of``.
        """
        if drops:
            if self.drop is None or self._nest is None or not self._nest.takes(record):
                self.drop, self._nest = record, Nest(record)
        elif drops is False:
            self.drop = self._nest = None
