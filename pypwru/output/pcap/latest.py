"""Buffer of the latest event of each packet, until it turns out whether it is the last."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

_MOST = 1 << 16
_MOST_OCTETS = 64 << 20


class Sized(Protocol):
    """An element of the buffer."""

    @property
    def size(self) -> int:
        """Its bytes, which count towards the bound."""


T = TypeVar("T", bound=Sized)


class Latest(Generic[T]):
    """The bounded buffer; evicts the packet whose latest event is the oldest.

    Args:
        most: maximum number of packets.
        most_octets: maximum bytes of all elements.
    """

    def __init__(self, most: int = _MOST, most_octets: int = _MOST_OCTETS) -> None:
        self._most = most
        self._most_octets = most_octets
        self._kept: dict[bytes, T] = {}
        self._octets = 0

    def put(self, skb: bytes, sight: T) -> list[T]:
        """Store the latest event of a packet in place of an earlier one.

        Args:
            skb: address of the packet, 8 bytes.
            sight: the event.

        Returns:
            The events that were evicted for it, of other packets or even itself, the oldest first.
        """
        self.pop(skb)
        self._kept[skb] = sight
        self._octets += sight.size
        gone = []
        while len(self._kept) > self._most or self._octets > self._most_octets:
            oldest = self.pop(next(iter(self._kept)))
            assert oldest is not None
            gone.append(oldest)
        return gone

    def pop(self, skb: bytes) -> T | None:
        """Remove and return the latest event of a packet; None if there is none."""
        sight = self._kept.pop(skb, None)
        if sight is not None:
            self._octets -= sight.size
        return sight

    def pop_all(self) -> list[T]:
        """Remove and return the events of all packets, the oldest first."""
        rest = list(self._kept.values())
        self._kept.clear()
        self._octets = 0
        return rest
