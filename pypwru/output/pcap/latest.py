"""The latest sight of each packet, while nobody knows yet whether it is its last."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

_MOST = 1 << 16
_MOST_OCTETS = 64 << 20


class Sized(Protocol):
    """What is kept."""

    @property
    def size(self) -> int:
        """Octets."""


T = TypeVar("T", bound=Sized)


class Latest(Generic[T]):
    """Bounded; that of the packet which was quiet for longest has to go first.

    Args:
        most: packets.
        most_octets: of all of them.
    """

    def __init__(self, most: int = _MOST, most_octets: int = _MOST_OCTETS) -> None:
        self._most = most
        self._most_octets = most_octets
        self._kept: dict[bytes, T] = {}
        self._octets = 0

    def put(self, skb: bytes, sight: T) -> list[T]:
        """Keep ``sight`` of a packet in place of an earlier one; those that have to go for it."""
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
        """The latest sight of a packet, which is not kept any longer."""
        sight = self._kept.pop(skb, None)
        if sight is not None:
            self._octets -= sight.size
        return sight

    def pop_all(self) -> list[T]:
        """Those of all packets, that which was quiet for longest first."""
        rest = list(self._kept.values())
        self._kept.clear()
        self._octets = 0
        return rest
