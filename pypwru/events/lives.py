"""Track sk_buffs from their first event to their free, and assign records to them.

The address alone does not identify an sk_buff, since the kernel reuses it. The packet id of a
record (``part_identity``) does, and a record of kind EVENT_END reports a free. Tracepoints see a
free only if it is traced itself: then an address may also be reused without a free record.
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
"""Tracked at a time. Beyond, the one that had no event for longest is evicted."""

KIND = slice(EVENT["kind"].offset, EVENT["kind"].offset + EVENT["kind"].size)
_END = constants()["EVENT_END"].to_bytes(EVENT["kind"].size, "little")
_UNKNOWN = bytes(8)
# Kinds of records that arrive after the free record of their packet: fwd, synproxy and drops with a
# reason free the sk_buff inside the expression, before the rule and the chain's return are traced.
LATE = frozenset(
    constants()[f"EVENT_NFT_{name}"].to_bytes(EVENT["kind"].size, "little")
    for name in ("RULE", "OUT")
)

T = TypeVar("T")


def is_end(record: Slices) -> bool:
    """Return whether a record is no event, but the free record of an sk_buff."""
    return record[0][KIND] == _END


def sights(batch: Sequence[Slices]) -> Sequence[Slices]:
    """Return the events of ``batch``: all records but free records."""
    return [record for record in batch if record[0][KIND] != _END]


class Why(Enum):
    """Why a packet is no longer tracked."""

    FREED = "the kernel freed it"
    REPLACED = "its address was reused"
    CROWDED = "it was evicted"
    STOPPED = "the trace ended"


class Lives(Generic[T]):
    """State of type ``T`` for each sk_buff, from its first event to its free.

    Args:
        wire: the layout of records; they have a packet id.
        names: address in a record -> name, of all attached targets. The caller owns it, and adds
            targets while tracing.
        begin: makes the state of a new sk_buff from its first event. ``Lives`` holds the state
            until it calls ``end``.
        end: called with the state, once, when an sk_buff is no longer tracked.
        most: sk_buffs that are tracked at a time.
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
        self._known: OrderedDict[bytes, tuple[bytes, T]] = OrderedDict()  # the last event's last
        # Freed in this batch, and in the one before: address -> only late nft events can follow.
        self._ending: dict[bytes, bool] = {}
        self._ended: dict[bytes, bool] = {}

    def see(self, record: Slices) -> T | None:
        """Process a record.

        Returns:
            The state of its sk_buff, created if it is new; None for a free record.
        """
        skb = record[0][:8]
        if record[0][KIND] == _END:
            if skb in self._known:
                self._ending[skb] = True
            return None
        kept = self._followed(skb, record)
        name = self._names.get(int.from_bytes(record[1][:8], "little"))
        if name in LAST_SIGHTS:
            # A function calls others, which have events, too; after a tracepoint there are none.
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
        """Return whether a record is of another sk_buff than the one tracked at its address.

        Clones, copies and segments have the same packet id, and can have a freed address.

        Args:
            skb: the address.
            record: an event.
            before: packet id of the tracked one.
        """
        identity, is_late = record[4][self._identity], record[0][KIND] in LATE
        changed = identity not in (before, _UNKNOWN)
        if self._ending.get(skb) or self._ended.get(skb):
            return changed or not is_late
        if is_late:  # of an earlier sk_buff at this address, which is no longer tracked
            return False
        return changed and (before != _UNKNOWN or self._has_ended(skb))

    def settle(self) -> None:
        """End the sk_buffs that were freed in the batch before this one. Call it after each batch.

        They are kept for one batch more, for the nft events that arrive after the free record.
        """
        for skb in list(self._ended):
            if skb in self._known:
                self._let_go(skb, Why.FREED)
        self._ended, self._ending = self._ending, {}

    def finish(self) -> None:
        """End all sk_buffs, at the end of the trace."""
        self.settle()
        self.settle()
        while self._known:
            self._let_go(next(iter(self._known)), Why.STOPPED)

    def quietest(self) -> T | None:
        """Return the state of the sk_buff that had no event for longest; None if there is none."""
        return next((kept for _, kept in self._known.values()), None)

    def leave_quietest(self) -> None:
        """Evict the sk_buff that had no event for longest, if there is one."""
        if self._known:
            self._let_go(next(iter(self._known)), Why.CROWDED)

    def leave(self, skb: bytes) -> None:
        """Stop tracking the sk_buff at an address, as if it had been freed.

        Args:
            skb: the address, as in records.
        """
        if skb in self._known:
            self._let_go(skb, Why.FREED)

    def at(self, skb: bytes) -> T | None:
        """Return the state of the sk_buff at an address; None if none is tracked there.

        Args:
            skb: the address, as in records.
        """
        known = self._known.get(skb)
        return known[1] if known else None

    def all(self) -> list[T]:
        """Return the states of all tracked sk_buffs, the one without an event for longest first."""
        return [kept for _, kept in self._known.values()]

    def _has_ended(self, skb: bytes) -> bool:
        return skb in self._ending or skb in self._ended

    def _let_go(self, skb: bytes, why: Why) -> None:
        self._ending.pop(skb, None)
        self._ended.pop(skb, None)
        self._end(self._known.pop(skb)[1], why)
