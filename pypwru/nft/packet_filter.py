"""Filter for packets with a matching nft event, with their complete path.

The match comes late: the events of a packet are held until then, and discarded when the packet is
freed without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.packets.tracker import EndReason, SkbTracker, TrackedSkb, is_free_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.discovery.targets import Targets
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_MAX_HELD_EVENTS = 1 << 17  # that are held at a time


class _Skb(TrackedSkb):
    """An sk_buff, whether it has a matching nft event, and its events until then."""

    __slots__ = ("held", "is_match")

    def __init__(self, skb: bytes, packet_id: bytes) -> None:
        super().__init__(skb, packet_id)
        self.is_match = False
        self.held: list[RawRecord] = []  # empty once it matches


class NftPacketFilter:
    """A stage of the pipeline that passes on the events of packets with a matching nft event.

    Args:
        layout: the layout of records; they have a packet id.
        matches: whether a record, or the last verdict in it, matches the user's criteria.
        targets: of the run.
    """

    def __init__(
        self,
        layout: RecordLayout,
        matches: Callable[[RawRecord], bool],
        targets: Targets,
    ) -> None:
        self.evicted_events = 0
        """Events that were discarded for lack of room, of packets without a match until then."""
        self._matches = matches
        self._tracker: SkbTracker[_Skb] = SkbTracker(
            layout, targets, lambda skb, packet_id, _: _Skb(skb, packet_id), self._on_end
        )
        self._held_events = 0  # that are held, of all packets

    def take(self, batch: Sequence[RawRecord]) -> list[RawRecord]:
        """Process a batch of records.

        Returns:
            The events of matching packets, those that were held included, and all free records.
        """
        found: list[RawRecord] = []
        for record in batch:
            skb = self._tracker.observe(record)
            if skb is None or is_free_record(record):
                found.append(record)
            else:
                self._add_event(skb, record, found)
        self._tracker.end_batch()
        return found

    def _add_event(self, skb: _Skb, record: RawRecord, found: list[RawRecord]) -> None:
        if not skb.is_match:
            skb.is_match = self._matches(record)
            self._held_events -= len(skb.held) * skb.is_match
        if skb.is_match:
            found += (*skb.held, record)
            skb.held.clear()
            return
        skb.held.append(record)
        self._held_events += 1
        while self._held_events > _MAX_HELD_EVENTS:
            self._tracker.make_room()

    def _on_end(self, skb: _Skb, reason: EndReason) -> None:
        self._held_events -= len(skb.held)
        self.evicted_events += len(skb.held) * (reason is EndReason.EVICTED)
