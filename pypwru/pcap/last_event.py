"""Buffer of the latest event of each sk_buff, until it turns out whether it is the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from pypwru.packets.tracker import TrackedSkb

_MAX_SKBS = 1 << 16
_MAX_BYTES = 64 << 20


class Sized(Protocol):
    """An element of the buffer."""

    @property
    def size(self) -> int:
        """Its bytes, which count towards the bound."""


T = TypeVar("T", bound=Sized)


class LastEventBuffer(Generic[T]):
    """The bounded buffer; evicts the sk_buff whose latest event is the oldest.

    Args:
        max_skbs: maximum number of sk_buffs.
        max_bytes: maximum bytes of all elements.
    """

    def __init__(self, max_skbs: int = _MAX_SKBS, max_bytes: int = _MAX_BYTES) -> None:
        self._max_skbs = max_skbs
        self._max_bytes = max_bytes
        self._events: dict[TrackedSkb, T] = {}
        self._total_bytes = 0

    def put(self, skb: TrackedSkb, event: T) -> list[T]:
        """Store the latest event of an sk_buff in place of an earlier one.

        Args:
            skb: the sk_buff.
            event: the event.

        Returns:
            The events that were evicted for it, of other sk_buffs or even itself, the oldest first.
        """
        self.pop(skb)
        self._events[skb] = event
        self._total_bytes += event.size
        evicted = []
        while len(self._events) > self._max_skbs or self._total_bytes > self._max_bytes:
            oldest = self.pop(next(iter(self._events)))
            assert oldest is not None
            evicted.append(oldest)
        return evicted

    def pop(self, skb: TrackedSkb) -> T | None:
        """Remove and return the latest event of an sk_buff; None if there is none."""
        event = self._events.pop(skb, None)
        if event is not None:
            self._total_bytes -= event.size
        return event

    def pop_all(self) -> list[T]:
        """Remove and return the events of all sk_buffs, the oldest first."""
        rest = list(self._events.values())
        self._events.clear()
        self._total_bytes = 0
        return rest
