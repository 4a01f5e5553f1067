"""Buffer of the latest event of each packet, until it turns out whether it is the last."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

_MAX_PACKETS = 1 << 16
_MAX_BYTES = 64 << 20


class Sized(Protocol):
    """An element of the buffer."""

    @property
    def size(self) -> int:
        """Its bytes, which count towards the bound."""


T = TypeVar("T", bound=Sized)


class LastEventBuffer(Generic[T]):
    """The bounded buffer; evicts the packet whose latest event is the oldest.

    Args:
        max_packets: maximum number of packets.
        max_bytes: maximum bytes of all elements.
    """

    def __init__(self, max_packets: int = _MAX_PACKETS, max_bytes: int = _MAX_BYTES) -> None:
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._events: dict[bytes, T] = {}
        self._total_bytes = 0

    def put(self, skb: bytes, event: T) -> list[T]:
        """Store the latest event of a packet in place of an earlier one.

        Args:
            skb: address of the packet, 8 bytes.
            event: the event.

        Returns:
            The events that were evicted for it, of other packets or even itself, the oldest first.
        """
        self.pop(skb)
        self._events[skb] = event
        self._total_bytes += event.size
        evicted = []
        while len(self._events) > self._max_packets or self._total_bytes > self._max_bytes:
            oldest = self.pop(next(iter(self._events)))
            assert oldest is not None
            evicted.append(oldest)
        return evicted

    def pop(self, skb: bytes) -> T | None:
        """Remove and return the latest event of a packet; None if there is none."""
        event = self._events.pop(skb, None)
        if event is not None:
            self._total_bytes -= event.size
        return event

    def pop_all(self) -> list[T]:
        """Remove and return the events of all packets, the oldest first."""
        rest = list(self._events.values())
        self._events.clear()
        self._total_bytes = 0
        return rest
