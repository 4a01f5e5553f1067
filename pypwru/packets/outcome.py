"""Classify a packet as dropped or consumed, by its events. Later events override earlier ones.

A function that drops one of several references to an sk_buff does not free it: the owner of the
last reference may free it much later, as a process does that reads its socket, and by a function
that is neither a drop nor a consume. Records have a flag for other references (``is_shared``).

One drop has several events: tcp_drop_reason() calls sk_skb_reason_drop(), and that calls
skb_release_data(), each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pypwru.bounded_memo import BoundedMemo
from pypwru.discovery.skb_lifetime import CONSUME_TARGETS, DROP_TARGETS
from pypwru.wire.drop_flag import frees_no_packet
from pypwru.wire.fields import KIND_SLICE
from pypwru.wire.kinds import FUNCTION, encode_kind
from pypwru.wire.record import RawRecord

_TASK = slice(8, None)
"""pid, CPU, kind and task, in the packet part."""
_ADDRESS, _REASON = slice(0, 8), slice(8, 12)
"""In the func part; the upper half of the reason is not part of the enum."""
_FUNCTION_KIND = encode_kind(FUNCTION.name)
_MAX_NESTED_NS = 10_000_000  # ns, in which a function that drops has called all others that do
_CACHE_SIZE = 1 << 14

IsDrop = Callable[[int, int], bool]
"""Returns whether a function drops packets, by its address and the drop reason (0: none)."""


class NestedDrop:
    """One drop: the event of the outermost function that drops a packet, and of those it calls.

    Args:
        record: the event of the outermost function.
    """

    def __init__(self, record: RawRecord) -> None:
        packet, func, self._start, _, _ = record
        self._cause = packet[_TASK] + func[_REASON]
        self._functions = {func[_ADDRESS]}

    def add_if_same(self, record: RawRecord) -> bool:
        """Return whether this event reports the same drop, and remember its function.

        It does if task, CPU and reason are the same, within 10 ms. The same function a second time
        means that the address was reused, for another packet.

        Args:
            record: a later event of a drop, at the same address.
        """
        packet, func, ktime, _, _ = record
        is_same = (
            packet[_TASK] + func[_REASON] == self._cause and ktime - self._start < _MAX_NESTED_NS
        )
        if not is_same or func[_ADDRESS] in self._functions:
            return False
        self._functions.add(func[_ADDRESS])
        return True


class DropClassifier:
    """Classifies events as drops, consumes, or neither.

    Args:
        targets: address in a record -> name, of the run.
        is_drop: whether a function with a drop reason drops packets.
    """

    def __init__(self, targets: Mapping[int, str], is_drop: IsDrop) -> None:
        self._targets = targets
        self._is_drop = is_drop
        self._functions = BoundedMemo(self._classify_function, _CACHE_SIZE)

    def classify(self, record: RawRecord) -> bool | None:
        """Return whether an event drops its packet.

        Returns:
            True for a drop, False for a function that frees without one, None for all others, and
            for a drop that frees no packet (``frees_no_packet``).
        """
        if record[0][KIND_SLICE] != _FUNCTION_KIND:
            return None
        is_drop = self._functions[record[1]]
        return None if is_drop and frees_no_packet(record[3]) else is_drop

    def _classify_function(self, func: bytes) -> bool | None:
        """Classify a func part."""
        address = int.from_bytes(func[_ADDRESS], "little")
        if self._is_drop(address, int.from_bytes(func[_REASON], "little")):
            return True
        return False if self._targets.get(address) in CONSUME_TARGETS | DROP_TARGETS else None


class Outcome:
    """Outcome of one packet so far."""

    __slots__ = ("_nested", "drop")

    def __init__(self) -> None:
        self.drop: RawRecord | None = None
        """The event of the outermost function of the last drop; None if it is not dropped."""
        self._nested: NestedDrop | None = None

    def update(self, record: RawRecord, is_drop: bool | None) -> None:
        """Update the outcome by another event.

        Args:
            record: the event.
            is_drop: its class, as of ``DropClassifier.classify``.
        """
        if is_drop:
            if self.drop is None or self._nested is None or not self._nested.add_if_same(record):
                self.drop, self._nested = record, NestedDrop(record)
        elif is_drop is False:
            self.drop = self._nested = None
