"""Track sk_buffs from their first event to their free, and assign records to them.

The address alone does not identify an sk_buff, since the kernel reuses it. The packet id of a
record (``part_packet_id``) does, and a record of kind EVENT_SKB_FREE reports a free. Tracepoints
see a free only if it is traced itself: then an address may also be reused without a free record.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from pypwru.discovery.skb_lifetime import TERMINAL_TARGETS
from pypwru.wire.record import EVENT_MEMBERS, RawRecord, header_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.wire.layout import RecordLayout

MAX_SKBS = 1 << 16
"""Tracked at a time. Beyond, the one that had no event for longest is evicted."""

KIND = slice(
    EVENT_MEMBERS["kind"].offset, EVENT_MEMBERS["kind"].offset + EVENT_MEMBERS["kind"].size
)
_SKB_FREE = header_constants()["EVENT_SKB_FREE"].to_bytes(EVENT_MEMBERS["kind"].size, "little")
_NO_ID = bytes(8)
# Kinds of records that arrive after the free record of their packet: fwd, synproxy and drops with a
# reason free the sk_buff inside the expression, before the rule and the chain's return are traced.
KINDS_AFTER_FREE = frozenset(
    header_constants()[f"EVENT_NFT_{name}"].to_bytes(EVENT_MEMBERS["kind"].size, "little")
    for name in ("RULE", "CHAIN_EXIT")
)

T = TypeVar("T")


def is_free_record(record: RawRecord) -> bool:
    """Return whether a record is no event, but the free record of an sk_buff."""
    return record[0][KIND] == _SKB_FREE


def without_free_records(batch: Sequence[RawRecord]) -> Sequence[RawRecord]:
    """Return the events of ``batch``: all records but free records."""
    return [record for record in batch if record[0][KIND] != _SKB_FREE]


class EndReason(Enum):
    """Why a packet is no longer tracked."""

    FREED = "the kernel freed it"
    ADDRESS_REUSED = "its address was reused"
    EVICTED = "it was evicted"
    TRACE_ENDED = "the trace ended"


class SkbTracker(Generic[T]):
    """State of type ``T`` for each sk_buff, from its first event to its free.

    Args:
        layout: the layout of records; they have a packet id.
        targets: address in a record -> name, of all attached targets. The caller owns it, and adds
            targets while tracing.
        make_state: makes the state of a new sk_buff from its first event. ``SkbTracker`` holds the
            state until it calls ``on_end``.
        on_end: called with the state, once, when an sk_buff is no longer tracked.
        max_skbs: sk_buffs that are tracked at a time.
    """

    def __init__(
        self,
        layout: RecordLayout,
        targets: Mapping[int, str],
        make_state: Callable[[RawRecord], T],
        on_end: Callable[[T, EndReason], object],
        max_skbs: int = MAX_SKBS,
    ) -> None:
        part = layout.parts["packet_id"]
        self._id_slice = slice(part.offset, part.offset + part.size)
        self._targets = targets
        self._make_state = make_state
        self._on_end = on_end
        self._max_skbs = max_skbs
        self._tracked: OrderedDict[bytes, tuple[bytes, T]] = OrderedDict()  # the last event's last
        # Freed in this batch, and in the one before: address -> only late nft events can follow.
        self._freed_now: dict[bytes, bool] = {}
        self._freed_before: dict[bytes, bool] = {}

    def observe(self, record: RawRecord) -> T | None:
        """Process a record.

        Returns:
            The state of its sk_buff, created if it is new; None for a free record.
        """
        skb = record[0][:8]
        if record[0][KIND] == _SKB_FREE:
            if skb in self._tracked:
                self._freed_now[skb] = True
            return None
        state = self._track(skb, record)
        name = self._targets.get(int.from_bytes(record[1][:8], "little"))
        if name in TERMINAL_TARGETS:
            # A function calls others, which have events, too; after a tracepoint there are none.
            self._freed_now.setdefault(skb, name.startswith("tp:"))
        return state

    def _track(self, skb: bytes, record: RawRecord) -> T:
        packet_id = record[4][self._id_slice]
        tracked = self._tracked.get(skb)
        if tracked is not None and self._is_other_skb(skb, record, tracked[0]):
            self._end_one(skb, EndReason.FREED if self._is_freed(skb) else EndReason.ADDRESS_REUSED)
            tracked = None
        if tracked is None:
            tracked = self._tracked[skb] = (packet_id, self._make_state(record))
            if len(self._tracked) > self._max_skbs:
                self._end_one(next(iter(self._tracked)), EndReason.EVICTED)
            return tracked[1]
        if tracked[0] == _NO_ID != packet_id:
            self._tracked[skb] = (packet_id, tracked[1])
        self._tracked.move_to_end(skb)
        return tracked[1]

    def _is_other_skb(self, skb: bytes, record: RawRecord, tracked_id: bytes) -> bool:
        """Return whether a record is of another sk_buff than the one tracked at its address.

        Clones, copies and segments have the same packet id, and can have a freed address.

        Args:
            skb: the address.
            record: an event.
            tracked_id: packet id of the tracked one.
        """
        packet_id, is_late = record[4][self._id_slice], record[0][KIND] in KINDS_AFTER_FREE
        is_other_id = packet_id not in (tracked_id, _NO_ID)
        if self._freed_now.get(skb) or self._freed_before.get(skb):
            return is_other_id or not is_late
        if is_late:  # of an earlier sk_buff at this address, which is no longer tracked
            return False
        return is_other_id and (tracked_id != _NO_ID or self._is_freed(skb))

    def end_batch(self) -> None:
        """End the sk_buffs that were freed in the batch before this one. Call it after each batch.

        They are kept for one batch more, for the nft events that arrive after the free record.
        """
        for skb in list(self._freed_before):
            if skb in self._tracked:
                self._end_one(skb, EndReason.FREED)
        self._freed_before, self._freed_now = self._freed_now, {}

    def end_all(self) -> None:
        """End all sk_buffs, at the end of the trace."""
        self.end_batch()
        self.end_batch()
        while self._tracked:
            self._end_one(next(iter(self._tracked)), EndReason.TRACE_ENDED)

    def least_recent(self) -> T | None:
        """Return the state of the sk_buff that had no event for longest; None if there is none."""
        return next((state for _, state in self._tracked.values()), None)

    def evict_least_recent(self) -> None:
        """Evict the sk_buff that had no event for longest, if there is one."""
        if self._tracked:
            self._end_one(next(iter(self._tracked)), EndReason.EVICTED)

    def remove(self, skb: bytes) -> None:
        """Stop tracking the sk_buff at an address, as if it had been freed.

        Args:
            skb: the address, as in records.
        """
        if skb in self._tracked:
            self._end_one(skb, EndReason.FREED)

    def get(self, skb: bytes) -> T | None:
        """Return the state of the sk_buff at an address; None if none is tracked there.

        Args:
            skb: the address, as in records.
        """
        tracked = self._tracked.get(skb)
        return tracked[1] if tracked else None

    def states(self) -> list[T]:
        """Return the states of all tracked sk_buffs, the one without an event for longest first."""
        return [state for _, state in self._tracked.values()]

    def _is_freed(self, skb: bytes) -> bool:
        return skb in self._freed_now or skb in self._freed_before

    def _end_one(self, skb: bytes, reason: EndReason) -> None:
        self._freed_now.pop(skb, None)
        self._freed_before.pop(skb, None)
        self._on_end(self._tracked.pop(skb)[1], reason)
