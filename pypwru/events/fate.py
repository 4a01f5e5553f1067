"""Whether a packet is thrown away, by what its sights say of its end: the last word counts.

A function that drops a reference to a packet that others have, too, says that it drops it, which is
the end of nothing: who has it last may free it much later, as a process that reads its socket does,
and by a function that says nothing. A record tells of other references. And one drop is told of
several times: tcp_drop_reason() calls sk_skb_reason_drop(), and that skb_release_data(), each with
the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pypwru.discovery.lifetime import CONSUMING, DROPPING
from pypwru.events.drop_flag import ends_nothing
from pypwru.events.lives import KIND
from pypwru.events.record import EVENT, Slices, constants

_TASK = slice(8, None)
"""And CPU and kind, in the packet part."""
_ADDRESS, _REASON = slice(0, 8), slice(8, 12)
"""In the func part; what is above the reason is no part of the enum."""
_FUNCTION = constants()["EVENT_FUNCTION"].to_bytes(EVENT["kind"].size, "little")
_NESTED = 10_000_000  # ns in which a function that drops has called all others that say so
_KEPT = 1 << 14

Drops = Callable[[int, int], bool]
"""(address, drop reason) to whether that is the end of a packet that is thrown away."""


class Nest:
    """A function that drops a packet, and those that it calls to do it.

    Args:
        record: the sight of the first of them.
    """

    def __init__(self, record: Slices) -> None:
        packet, func, self._since, _, _ = record
        self._by = packet[_TASK] + func[_REASON]
        self._functions = {func[_ADDRESS]}

    def takes(self, record: Slices) -> bool:
        """Whether the sight of a drop tells of the same. A function that tells of an address once
        more tells of another packet.
        """
        packet, func, ktime, _, _ = record
        is_same = packet[_TASK] + func[_REASON] == self._by and ktime - self._since < _NESTED
        if not is_same or func[_ADDRESS] in self._functions:
            return False
        self._functions.add(func[_ADDRESS])
        return True


class Words:
    """What sights say of the end of their packets.

    Args:
        names: the address that a record carries -> name, of everything that is traced; may grow.
        drops: which of them throw packets away.
    """

    def __init__(self, names: Mapping[int, str], drops: Drops) -> None:
        self._names = names
        self._drops = drops
        self._known: dict[bytes, bool | None] = {}

    def of(self, record: Slices) -> bool | None:
        """Whether a sight drops its packet; None where it neither does nor says otherwise."""
        if record[0][KIND] != _FUNCTION:
            return None
        word = self._of_function(record[1])
        return None if word and ends_nothing(record[3]) else word

    def _of_function(self, func: bytes) -> bool | None:
        """What a function says, by the func part."""
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
    """What was said of one packet's end so far."""

    __slots__ = ("_nest", "drop")

    def __init__(self) -> None:
        self.drop: Slices | None = None
        """The sight that dropped it, of the outermost function that did; None: nothing did."""
        self._nest: Nest | None = None

    def hear(self, record: Slices, drops: bool | None) -> None:
        """Another sight, and its word."""
        if drops:
            if self.drop is None or self._nest is None or not self._nest.takes(record):
                self.drop, self._nest = record, Nest(record)
        elif drops is False:
            self.drop = self._nest = None
