"""Packets under way: which of them a record is of, and which have come to their end.

An address alone does not tell: the kernel gives it again. A record's ``part_identity`` does, and a
record of kind EVENT_END says that an sk_buff is freed. Tracepoints tell of ends only where one of
them is the last sight, so that a packet may also be followed at its address by another, unended.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.record import EVENT, Slices, constants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.events.wire import Wire

PACKETS = 1 << 16
"""At a time; beyond, the one that was quiet for longest is no longer followed."""

KIND = slice(EVENT["kind"].offset, EVENT["kind"].offset + EVENT["kind"].size)
_END = constants()["EVENT_END"].to_bytes(EVENT["kind"].size, "little")
_UNKNOWN = bytes(8)
# What frees a packet inside a chain (fwd, synproxy, a drop with a reason) is told of only then.
LATE = frozenset(
    constants()[f"EVENT_NFT_{name}"].to_bytes(EVENT["kind"].size, "little")
    for name in ("RULE", "OUT")
)

T = TypeVar("T")


def is_end(record: Slices) -> bool:
    """Whether a record is no sight, but says that a packet has ended."""
    return record[0][KIND] == _END


def sights(batch: Sequence[Slices]) -> Sequence[Slices]:
    """``batch`` without records that are no sights."""
    return [record for record in batch if record[0][KIND] != _END]


class Why(Enum):
    """Why a packet is no longer followed."""

    FREED = "the kernel freed it"
    REPLACED = "another packet has its address"
    CROWDED = "there are too many"
    STOPPED = "the trace ended"


class Lives(Generic[T]):
    """What a reader of records keeps of each packet.

    Args:
        wire: the layout of records; they have an identity.
        names: the address that a record carries -> name, of everything that is traced; may grow.
        begin: makes what is kept of a new packet, from its first record.
        end: takes it back.
        most: packets at a time.
    """

    def __init__(
        self,
        wire: Wire,
        names: Mapping[int, str],
        begin: Callable[[Slices], T],
        end: Callable[[T, Why], object],
        most: int = PACKETS,
    ) -> None:
        place = wire.parts["identity"]
        self._identity = slice(place.offset, place.offset + place.size)
        self._names = names
        self._begin = begin
        self._end = end
        self._most = most
        self._known: OrderedDict[bytes, tuple[bytes, T]] = OrderedDict()  # by address, quiet first
        # In this batch, and in the one before: whether only nftables can still speak of it.
        self._ending: dict[bytes, bool] = {}
        self._ended: dict[bytes, bool] = {}

    def see(self, record: Slices) -> T | None:
        """What is kept of a record's packet; None for a record that is no sight."""
        skb = record[0][:8]
        if record[0][KIND] == _END:
            if skb in self._known:
                self._ending[skb] = True
            return None
        kept = self._followed(skb, record)
        name = self._names.get(int.from_bytes(record[1][:8], "little"))
        if name in LAST_SIGHTS:
            # Others are called inside a function; a tracepoint is the end.
            self._ending.setdefault(skb, name.startswith("tp:"))
        return kept

    def _followed(self, skb: bytes, record: Slices) -> T:
        identity = record[4][self._identity]
        known = self._known.get(skb)
        if known is not None and self._is_another(skb, record, known[0]):
            self._let_go(skb, Why.FREED if self._has_ended(skb) else Why.REPLACED)
            known = None
        if known is None:
            known = self._known[skb] = (identity, self._begin(record))
            if len(self._known) > self._most:
                self._let_go(next(iter(self._known)), Why.CROWDED)
            return known[1]
        if known[0] == _UNKNOWN != identity:
            self._known[skb] = (identity, known[1])
        self._known.move_to_end(skb)
        return known[1]

    def _is_another(self, skb: bytes, record: Slices, before: bytes) -> bool:
        """Whether a record is of another packet than that of which identity was known before.

        What is made of a packet has its identity, and can have the address of one that has ended.
        """
        identity, is_late = record[4][self._identity], record[0][KIND] in LATE
        changed = identity not in (before, _UNKNOWN)
        if self._ending.get(skb) or self._ended.get(skb):
            return changed or not is_late
        if is_late:  # of one that was at this address before, and has been let go of
            return False
        return changed and (before != _UNKNOWN or self._has_ended(skb))

    def settle(self) -> None:
        """After each batch: end what ended in the one before.

        What frees a packet inside a chain of nftables is told of only behind the end.
        """
        for skb in list(self._ended):
            if skb in self._known:
                self._let_go(skb, Why.FREED)
        self._ended, self._ending = self._ending, {}

    def finish(self) -> None:
        """The trace is over: end all."""
        self.settle()
        self.settle()
        while self._known:
            self._let_go(next(iter(self._known)), Why.STOPPED)

    def quietest(self) -> T | None:
        """What is kept of the packet that was quiet for longest."""
        return next((kept for _, kept in self._known.values()), None)

    def leave_quietest(self) -> None:
        """Follow that one no longer."""
        if self._known:
            self._let_go(next(iter(self._known)), Why.CROWDED)

    def leave(self, skb: bytes) -> None:
        """Follow the packet at an address no longer, as if it had ended."""
        if skb in self._known:
            self._let_go(skb, Why.FREED)

    def at(self, skb: bytes) -> T | None:
        """What is kept of the packet at an address."""
        known = self._known.get(skb)
        return known[1] if known else None

    def all(self) -> list[T]:
        """What is kept, of each packet under way."""
        return [kept for _, kept in self._known.values()]

    def _has_ended(self, skb: bytes) -> bool:
        return skb in self._ending or skb in self._ended

    def _let_go(self, skb: bytes, why: Why) -> None:
        self._ending.pop(skb, None)
        self._ended.pop(skb, None)
        self._end(self._known.pop(skb)[1], why)
