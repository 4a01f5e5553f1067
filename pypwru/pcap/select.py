"""The selection of events whose packets are written, and the numbering of packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pypwru.bounded_memo import BoundedMemo
from pypwru.config import DROP, EVERY, FIRST, LAST
from pypwru.names.event_names import NameResolver, event_type, name_and_reason
from pypwru.names.functions import name_aliases
from pypwru.packets.outcome import NestedDrop
from pypwru.packets.tracker import EndReason, SkbTracker, TrackedSkb, is_free_record
from pypwru.pcap.last_event import LastEventBuffer
from pypwru.wire.fields import KIND_SLICE, decode_function
from pypwru.wire.kinds import DROP_TYPE
from pypwru.wire.record import RawRecord

if TYPE_CHECKING:
    from pypwru.discovery.targets import Targets
    from pypwru.pcap.packet_data import PacketCapture
    from pypwru.wire.layout import RecordLayout

TakeData = Callable[[RawRecord], "PacketCapture | None"]
"""Returns and removes the captured packet data of a record; called once per record, in order."""

_MAX_TRAITS = 1 << 14  # functions times drop reasons


class CapturedEvent(NamedTuple):
    """An event with captured packet data.

    Args:
        record: of the event.
        captured: the packet data.
        packet_number: the packet id; in a run without packet ids, the number of the event.
        lost_before: number of packets lost since the event written before; 0 until it is written.
    """

    record: RawRecord
    captured: PacketCapture
    packet_number: int
    lost_before: int = 0

    @property
    def size(self) -> int:
        """Bytes of packet data."""
        return len(self.captured.data)


class _FunctionTraits(NamedTuple):
    """Properties of an event that follow from its function, drop reason and kind.

    Args:
        is_named: --pcap-when names the function.
        is_selected_drop: --pcap-when has ``drop``, and the event drops its packet.
    """

    is_named: bool
    is_selected_drop: bool


class _Skb(TrackedSkb):
    """An sk_buff, and its latest drop."""

    __slots__ = ("drop",)

    def __init__(self, skb: bytes, packet_id: bytes) -> None:
        super().__init__(skb, packet_id)
        self.drop: NestedDrop | None = None

    def is_new_drop(self, record: RawRecord) -> bool:
        """Return whether the event of a drop is the first one of that drop.

        Nested functions report the same drop again.
        """
        if self.drop is not None and self.drop.add_if_same(record):
            return False
        self.drop = NestedDrop(record)
        return True


class CaptureSelector:
    """Selector of events by --pcap-when; an event that several words select is returned once.

    The last event of an sk_buff is known when it is freed, or at the end of the run. If too many
    are alive, the latest event of one is returned early, and it may have another "last" event.

    Args:
        when: values of --pcap-when: ``first``, ``last``, ``drop``, ``every`` or function names.
        layout: the layout of records; with other values than ``first`` they have a packet id.
        names: the name resolver.
        targets: of the run.
        take_data: returns and removes the captured packet data of a record.
        latest: buffer for the word ``last``; None: a new one.
    """

    def __init__(
        self,
        when: frozenset[str],
        layout: RecordLayout,
        names: NameResolver,
        targets: Targets,
        take_data: TakeData,
        latest: LastEventBuffer[CapturedEvent] | None = None,
    ) -> None:
        self._take_data = take_data
        self._when, self._names = when, names
        self._traits = BoundedMemo(self._find_traits, _MAX_TRAITS)
        self._every, self._first, self._last = (word in when for word in (EVERY, FIRST, LAST))
        self._latest = latest or LastEventBuffer()
        self._tracker: SkbTracker[_Skb] | None = None  # none is needed for ``first`` alone
        if not when <= {FIRST}:
            self._tracker = SkbTracker(
                layout, targets, lambda skb, packet_id, _: _Skb(skb, packet_id), self._on_end
            )
        part = layout.parts.get("packet_id")
        self._id_slice = part.as_slice if part else None
        self._count = 0
        self._found: list[CapturedEvent] = []
        self._unreported_losses = 0  # lost packets that no returned event has reported yet
        self.reported_losses = 0
        """Number of lost packets that returned events have reported in ``lost_before``."""

    def select(self, batch: Iterable[RawRecord]) -> list[CapturedEvent]:
        """Return the events to write: those of ``batch`` in its order, then buffered ones.

        Args:
            batch: records in ring order, free records included; may be empty.
        """
        for record in batch:
            skb = self._tracker.observe(record) if self._tracker else None
            if not is_free_record(record):
                self._process(record, skb)
        if self._tracker:
            self._tracker.end_batch()
        found, self._found = self._found, []
        return found

    def take_buffered(self) -> Sequence[CapturedEvent]:
        """Return the buffered events at the end of a run, the oldest first."""
        return [self._with_losses(event) for event in self._latest.pop_all()]

    def _process(self, record: RawRecord, skb: _Skb | None) -> None:
        captured = self._take_data(record)
        if captured is None:
            return
        self._unreported_losses += captured.lost_before
        if not captured.layer:
            return
        event = CapturedEvent(record, captured, self._packet_number(record))
        packet, func, _, _, _ = record
        trait = self._traits[func + packet[KIND_SLICE]]
        is_new_drop = bool(trait.is_selected_drop and skb and skb.is_new_drop(record))
        if self._every or trait.is_named or is_new_drop or (self._first and captured.is_first):
            if skb and self._last:
                self._latest.pop(skb)  # this event is later and will be written anyway
            self._found.append(self._with_losses(event))
        elif skb and self._last:
            self._found += map(self._with_losses, self._latest.put(skb, event))

    def _find_traits(self, part: bytes) -> _FunctionTraits:
        """Return the properties of the func part of a record with the kind appended."""
        fields = decode_function(part)
        name, _ = name_and_reason(fields, self._names)
        is_selected_drop = DROP in self._when and event_type(fields, self._names) == DROP_TYPE
        is_named = not self._when.isdisjoint(name_aliases(name))
        return _FunctionTraits(is_named, is_selected_drop)

    def _with_losses(self, event: CapturedEvent) -> CapturedEvent:
        """Move the count of losses into an event that is about to be returned."""
        if not self._unreported_losses:
            return event
        lost, self._unreported_losses = self._unreported_losses, 0
        self.reported_losses += lost
        return event._replace(lost_before=lost)

    def _on_end(self, skb: _Skb, reason: EndReason) -> None:
        last = self._latest.pop(skb)
        if last is not None:
            self._found.append(self._with_losses(last))

    def _packet_number(self, record: RawRecord) -> int:
        if self._id_slice:
            return int.from_bytes(record[4][self._id_slice], "little")
        self._count += 1
        return self._count
