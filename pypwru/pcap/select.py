"""The selection of events whose packets are written, and the numbering of packets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import DROP, EVERY, FIRST, LAST
from pypwru.discovery.skb_lifetime import TERMINAL_TARGETS
from pypwru.names.event_names import NameResolver, event_type, name_and_reason
from pypwru.names.functions import name_aliases
from pypwru.packets.outcome import NestedDrop
from pypwru.pcap.last_event import LastEventBuffer
from pypwru.wire.fields import KIND_SLICE, decode_function
from pypwru.wire.record import RawRecord

if TYPE_CHECKING:
    from pypwru.pcap.packet_data import PacketCapture

TakeData = Callable[[RawRecord], "PacketCapture | None"]
"""Returns and removes the captured packet data of a record; called once per record, in order."""

_SKB_SLICE = slice(0, 8)
"""Position of event.skb in the packet part."""
_MAX_TRAITS = 1 << 14
_MAX_ADDRESSES = 1 << 20  # maximum number of packet addresses in a dict


class CapturedEvent(NamedTuple):
    """An event with captured packet data.

    Args:
        record: of the event.
        captured: the packet data.
        packet_number: the same for all events of a packet.
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
        is_last: it is the last event of its packet.
    """

    is_named: bool
    is_selected_drop: bool
    is_last: bool


class _TraitCache(dict[bytes, _FunctionTraits]):
    """Cache of the func part with the kind appended -> its properties; computed on a miss."""

    def __init__(self, when: frozenset[str], names: NameResolver) -> None:
        super().__init__()
        self._when = when
        self._names = names

    def __missing__(self, part: bytes) -> _FunctionTraits:
        if len(self) >= _MAX_TRAITS:  # functions times drop reasons
            self.clear()
        fields = decode_function(part)
        name, _ = name_and_reason(fields, self._names)
        bare_name = name.partition("[")[0]
        is_selected_drop = DROP in self._when and event_type(fields, self._names) == "drop"
        is_named = not self._when.isdisjoint(name_aliases(name))
        trait = self[part] = _FunctionTraits(
            is_named, is_selected_drop, bare_name in TERMINAL_TARGETS
        )
        return trait


class _DropDeduplicator:
    """Recognizes further events of one drop: nested functions report the same drop again."""

    def __init__(self) -> None:
        self._latest_drops: dict[bytes, NestedDrop] = {}

    def is_first(self, record: RawRecord) -> bool:
        """Return whether the event of a drop is the first one of that drop."""
        skb = record[0][_SKB_SLICE]
        previous = self._latest_drops.get(skb)
        if previous and previous.add_if_same(record):
            return False
        if len(self._latest_drops) >= _MAX_ADDRESSES:
            self._latest_drops.clear()
        self._latest_drops[skb] = NestedDrop(record)
        return True


class CaptureSelector:
    """Selector of events by --pcap-when; an event that several words select is returned once.

    A packet ends with a function that frees it, or when a record has the first-event flag at its
    address. Then, or at the end of the run, its last event is known. If too many packets are alive,
    the latest event of one is returned early, and that packet may have another "last" event.

    Args:
        when: words of --pcap-when, and names of functions as printed, with or without module.
        names: the name resolver.
        take_data: returns and removes the captured packet data of a record.
        latest: buffer for the word ``last``; None: a new one.
    """

    def __init__(
        self,
        when: Collection[str],
        names: NameResolver,
        take_data: TakeData,
        latest: LastEventBuffer[CapturedEvent] | None = None,
    ) -> None:
        self._take_data = take_data
        self._traits = _TraitCache(frozenset(when), names)
        self._every, self._first, self._last = (word in when for word in (EVERY, FIRST, LAST))
        self._latest = latest or LastEventBuffer()
        self._drops = _DropDeduplicator()
        self._numbers: dict[bytes, int] = {}
        self._count = 0
        self._unreported_losses = 0  # lost packets that no returned event has reported yet
        self.reported_losses = 0
        """Number of lost packets that returned events have reported in ``lost_before``."""

    def select(self, batch: Iterable[RawRecord]) -> list[CapturedEvent]:
        """Return the events to write: those of ``batch`` in its order, among buffered ones."""
        found: list[CapturedEvent] = []
        for record in batch:
            packet, func, _, _, _ = record
            skb = packet[_SKB_SLICE]
            trait = self._traits[func + packet[KIND_SLICE]]
            captured = self._take_data(record)
            if captured is not None:
                self._unreported_losses += captured.lost_before
                if captured.is_first:
                    self._end_packet(skb, found)
                if captured.layer:
                    self._add(
                        CapturedEvent(record, captured, self._packet_number(skb)), trait, found
                    )
            if trait.is_last:
                self._end_packet(skb, found)
        return found

    def take_buffered(self) -> Sequence[CapturedEvent]:
        """Return the buffered events at the end of a run, the oldest first."""
        return [self._with_losses(event) for event in self._latest.pop_all()]

    def _with_losses(self, event: CapturedEvent) -> CapturedEvent:
        """Move the count of losses into an event that is about to be returned."""
        if not self._unreported_losses:
            return event
        lost, self._unreported_losses = self._unreported_losses, 0
        self.reported_losses += lost
        return event._replace(lost_before=lost)

    def _add(
        self, event: CapturedEvent, trait: _FunctionTraits, found: list[CapturedEvent]
    ) -> None:
        skb = event.record[0][_SKB_SLICE]
        is_new_drop = trait.is_selected_drop and self._drops.is_first(event.record)
        if (
            self._every
            or trait.is_named
            or is_new_drop
            or (self._first and event.captured.is_first)
        ):
            if self._last:
                self._latest.pop(skb)  # this event is later and will be written anyway
            found.append(self._with_losses(event))
        elif self._last:
            found += map(self._with_losses, self._latest.put(skb, event))

    def _end_packet(self, skb: bytes, found: list[CapturedEvent]) -> None:
        self._numbers.pop(skb, None)
        last = self._latest.pop(skb)
        if last is not None:
            found.append(self._with_losses(last))

    def _packet_number(self, skb: bytes) -> int:
        number = self._numbers.get(skb)
        if number is None:
            if len(self._numbers) >= _MAX_ADDRESSES:
                self._numbers.clear()
            self._count = number = self._numbers[skb] = self._count + 1
        return number
