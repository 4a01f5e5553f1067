"""Track sk_buffs from their first event to their free: which record is of which sk_buff.

The address alone does not identify an sk_buff, since the kernel reuses it, and neither does the
packet id of a record (``part_packet_id``), which clones, copies and segments share. Both together
do, until the free record (EVENT_SKB_FREE) at that address. Tracepoints see a free only if it is
traced itself: then an address may also be reused without a free record.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from pypwru.bounded_memo import BoundedMemo
from pypwru.discovery.skb_lifetime import TERMINAL_TARGETS
from pypwru.wire.fields import KIND_SLICE
from pypwru.wire.kinds import KINDS, encode_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.discovery.targets import Targets
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

MAX_SKBS = 1 << 16
"""sk_buffs in one of two generations. Beyond, those without an event for longest are evicted."""

_MAX_FREE_KINDS = 1 << 14  # functions times drop reasons
_SKB_FREE = encode_kind("SKB_FREE")
_LATE_KINDS = frozenset(encode_kind(kind.name) for kind in KINDS.values() if kind.may_follow_free)


def is_free_record(record: RawRecord) -> bool:
    """Return whether a record is no event, but the free record of an sk_buff."""
    return record[0][KIND_SLICE] == _SKB_FREE


def without_free_records(batch: Sequence[RawRecord]) -> Sequence[RawRecord]:
    """Return the events of ``batch``: all records but free records."""
    return [record for record in batch if record[0][KIND_SLICE] != _SKB_FREE]


class EndReason(Enum):
    """Why an sk_buff is no longer tracked."""

    FREED = "the kernel freed it"
    ADDRESS_REUSED = "its address was reused"
    EVICTED = "it was evicted"
    TRACE_ENDED = "the trace ended"


class FreeKind(Enum):
    """What the event of a target means for its sk_buff."""

    FREES = "the target frees it, and may call other targets before it does"
    LAST_EVENT = "it is freed, and has no other event than late nft events"


class FreeKinds(BoundedMemo[bytes, FreeKind | None]):
    """func part of a record -> ``FreeKind`` of its target; None if that frees no sk_buff.

    Args:
        targets: of the run; all results are forgotten when some are added.
    """

    __slots__ = ("_targets",)

    def __init__(self, targets: Targets) -> None:
        super().__init__(self._find, _MAX_FREE_KINDS)
        self._targets = targets
        targets.on_add(lambda added: self.clear())

    def _find(self, func: bytes) -> FreeKind | None:
        name = self._targets.get(int.from_bytes(func[:8], "little"), "")
        if name not in TERMINAL_TARGETS:
            return None
        # Nothing is called from within a tracepoint.
        return FreeKind.LAST_EVENT if name.startswith("tp:") else FreeKind.FREES


class TrackedSkb:
    """An sk_buff that is tracked; subclasses hold what their user keeps of it.

    Args:
        skb: its address, as in records.
        packet_id: packet id, as in records.
    """

    __slots__ = ("is_freed", "packet_id", "skb")

    def __init__(self, skb: bytes, packet_id: bytes) -> None:
        self.skb = skb
        self.packet_id = packet_id
        self.is_freed = False
        """Whether an event or a free record reported its free."""


T = TypeVar("T", bound=TrackedSkb)


class SkbTracker(Generic[T]):
    """The sk_buffs that have events, each from its first event to its free.

    A freed sk_buff is tracked for one batch more, for the nft events that arrive after its free.

    Args:
        layout: the layout of records; they have a packet id.
        targets: of the run.
        make: makes a ``TrackedSkb`` of address, packet id and first event.
        on_end: called once with each sk_buff that is no longer tracked. ``SkbTracker`` drops its
            reference then.
        max_skbs: sk_buffs in one of two generations, and freed ones apart.

    Attributes:
        current: address -> sk_buff, of the young generation. An event at an address with the packet
            id of that sk_buff is of it: a loop over many records may look for itself, and call
            ``assign`` for all others.
        free_kinds: func part -> ``FreeKind`` of an event.
    """

    def __init__(
        self,
        layout: RecordLayout,
        targets: Targets,
        make: Callable[[bytes, bytes, RawRecord], T],
        on_end: Callable[[T, EndReason], object],
        max_skbs: int = MAX_SKBS,
    ) -> None:
        self.id_slice = layout.parts["packet_id"].as_slice
        """Position of the packet id in the tail of a record."""
        self.current: dict[bytes, T] = {}
        self.free_kinds = FreeKinds(targets)
        self._make = make
        self._on_end = on_end
        self._max_skbs = max_skbs
        # Two generations, as in CLOCK: an sk_buff without an event while the young one fills is
        # evictable. That bounds the memory without an LRU update for each event.
        self._old: dict[bytes, T] = {}
        # Freed in this batch, and in the one before. First those that a function was to free, then
        # those that are free: address and packet id -> sk_buff; its address may be another's.
        self._freeing: tuple[list[T], list[T]] = ([], [])
        self._freed: tuple[dict[bytes, T], dict[bytes, T]] = ({}, {})

    def observe(self, record: RawRecord) -> T | None:
        """Process a record.

        Returns:
            The sk_buff that it is of; None for the free record of one that is not tracked.
        """
        skb, packet_id = record[0][:8], record[4][self.id_slice]
        tracked = self.current.get(skb)
        if record[0][KIND_SLICE] == _SKB_FREE:
            tracked = tracked or self._old.get(skb)
            if tracked is None or tracked.packet_id != packet_id:
                return None
            self.free(tracked, FreeKind.LAST_EVENT)
            return tracked
        if tracked is None or tracked.packet_id != packet_id:
            tracked = self.assign(record)
        free_kind = self.free_kinds[record[1]]
        if free_kind:
            self.free(tracked, free_kind)
        return tracked

    def assign(self, record: RawRecord) -> T:
        """Return the sk_buff of an event that is not of the one in ``current`` at its address."""
        skb, packet_id = record[0][:8], record[4][self.id_slice]
        is_late = record[0][KIND_SLICE] in _LATE_KINDS
        if is_late:
            key = skb + packet_id
            freed = self._freed[0].get(key) or self._freed[1].get(key)
            if freed is not None:
                return freed
        tracked = self.current.get(skb)
        if tracked is None and skb in self._old:
            tracked = self.current[skb] = self._old.pop(skb)
        if tracked is not None:
            if tracked.packet_id == packet_id:
                return tracked
            if is_late:  # the first to be seen of an sk_buff that had the address before
                made = self._make(skb, packet_id, record)
                self._add_freed(made)
                return made
            self._end(tracked, EndReason.ADDRESS_REUSED)
        made = self.current[skb] = self._make(skb, packet_id, record)
        return made

    def free(self, tracked: T, free_kind: FreeKind) -> None:
        """Process the free of an sk_buff.

        Args:
            tracked: the sk_buff.
            free_kind: what its event or free record means.
        """
        tracked.is_freed = True
        if free_kind is FreeKind.FREES:
            self._freeing[0].append(tracked)
            return
        skb = tracked.skb
        if self.current.get(skb) is tracked:
            del self.current[skb]
        elif self._old.get(skb) is tracked:
            del self._old[skb]
        else:
            return
        self._add_freed(tracked)

    def end_batch(self) -> None:
        """End the sk_buffs that were freed in the batch before this one. Call it after each batch.

        It also evicts a generation if there are too many.
        """
        freeing, freed = self._freeing[1], self._freed[1]
        self._freeing, self._freed = ([], self._freeing[0]), ({}, self._freed[0])
        for tracked in freed.values():
            self._on_end(tracked, EndReason.FREED)
        for tracked in freeing:
            self.remove(tracked)
        if len(self.current) > self._max_skbs:
            for tracked in list(self._old.values()):
                self._end(tracked, EndReason.EVICTED)
            self._old.update(self.current)
            self.current.clear()

    def end_all(self) -> None:
        """End all sk_buffs, at the end of the trace."""
        self.end_batch()
        self.end_batch()
        for tracked in self.tracked():
            self._end(tracked, EndReason.TRACE_ENDED)

    def make_room(self) -> None:
        """End one sk_buff, if any is tracked: a freed one, else one without an event for long."""
        for freed in reversed(self._freed):
            if freed:
                self._on_end(freed.pop(next(iter(freed))), EndReason.FREED)
                return
        for generation in (self._old, self.current):
            if generation:
                self._end(next(iter(generation.values())), EndReason.EVICTED)
                return

    def remove(self, tracked: T) -> None:
        """Stop tracking an sk_buff, as if it had been freed; nothing if it is freed or ended."""
        if tracked in (self.current.get(tracked.skb), self._old.get(tracked.skb)):
            self._end(tracked, EndReason.FREED)

    def tracked(self) -> list[T]:
        """Return all sk_buffs that are tracked, those without an event for long and freed first."""
        freed = [*self._freed[1].values(), *self._freed[0].values()]
        return [*freed, *self._old.values(), *self.current.values()]

    def _add_freed(self, tracked: T) -> None:
        key = tracked.skb + tracked.packet_id
        clone = self._freed[0].get(key)
        self._freed[0][key] = tracked
        if clone is not None:
            self._on_end(clone, EndReason.FREED)

    def _end(self, tracked: T, reason: EndReason) -> None:
        """End an sk_buff for a reason, unless an event has reported its free already."""
        if self.current.pop(tracked.skb, None) is None:
            del self._old[tracked.skb]
        self._on_end(tracked, EndReason.FREED if tracked.is_freed else reason)
