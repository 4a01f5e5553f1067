"""Hold the events of each packet until it is freed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pypwru.packets.outcome import DropClassifier, IsDrop, Outcome
from pypwru.packets.tracker import EndReason, SkbTracker, TrackedSkb, is_free_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.discovery.targets import Targets
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

MAX_HELD_EVENTS = 1 << 17
"""Events that are held at a time. Beyond, packets without an event for long are evicted."""

# ns after a drop without a free record, after which a packet counts as freed: since Linux commit
# eedade12f4cb ("net: kfree_skb_list use kmem_cache_free_bulk") (in v6.3) kfree_skb_list_reason()
# frees in bulk, and no function is called for each packet.
_FREE_TIMEOUT = 500_000_000


class PacketHistory(TrackedSkb):
    """Event history of an sk_buff: ``events`` in ring order, and its outcome so far.

    Args:
        skb: its address, as in records.
        packet_id: as in records.
    """

    __slots__ = ("events", "free_record", "outcome")

    def __init__(self, skb: bytes, packet_id: bytes) -> None:
        super().__init__(skb, packet_id)
        self.events: list[RawRecord] = []
        self.outcome = Outcome()
        self.free_record: RawRecord | None = None
        """The free record; None until it arrives."""


class PacketHistories:
    """Collects the event history of each packet.

    Args:
        layout: the layout of records; they have a packet id.
        targets: of the run.
        is_drop: whether a function with a drop reason drops packets.
        on_complete: called with a history when it is complete, and why it is. An evicted packet's
            is passed as it is. It is not used any more afterwards.
        clock: returns CLOCK_MONOTONIC, ns.
    """

    def __init__(
        self,
        layout: RecordLayout,
        targets: Targets,
        is_drop: IsDrop,
        on_complete: Callable[[PacketHistory, EndReason], object],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._classifier = DropClassifier(targets, is_drop)
        self._tracker: SkbTracker[PacketHistory] = SkbTracker(
            layout, targets, lambda skb, packet_id, _: PacketHistory(skb, packet_id), self._complete
        )
        self._on_complete = on_complete
        self._clock = clock
        self._held_events = 0  # events
        self._dropped_at: dict[PacketHistory, int] = {}  # ktime of its first drop; oldest first

    def take(self, batch: Sequence[RawRecord]) -> None:
        """Process a batch of records, free records included; an empty one advances timeouts."""
        for record in batch:
            history = self._tracker.observe(record)
            if history is None:
                continue
            if is_free_record(record):
                history.free_record = record
            else:
                self._add_event(history, record)
        self._tracker.end_batch()
        self._expire()

    def finish(self) -> None:
        """Complete all histories, at the end of the trace."""
        self._tracker.end_all()

    def _add_event(self, history: PacketHistory, record: RawRecord) -> None:
        history.events.append(record)
        self._held_events += 1
        is_drop = self._classifier.classify(record)
        if is_drop is not None:
            history.outcome.update(record, is_drop)
        if is_drop:
            self._dropped_at.setdefault(history, record[2])
        while self._held_events > MAX_HELD_EVENTS:
            self._tracker.make_room()

    def _expire(self) -> None:
        deadline = self._clock() - _FREE_TIMEOUT
        while self._dropped_at:
            history, dropped_at = next(iter(self._dropped_at.items()))
            if dropped_at > deadline:
                break
            del self._dropped_at[history]
            if history.outcome.drop is not None:
                self._tracker.remove(history)

    def _complete(self, history: PacketHistory, reason: EndReason) -> None:
        self._held_events -= len(history.events)
        self._dropped_at.pop(history, None)
        self._on_complete(history, reason)
