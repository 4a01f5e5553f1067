"""The events of a packet, decoded for both formats of a journey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.nft import render
from pypwru.output.split import DECODERS, RecordSplitter
from pypwru.wire.fields import FlowFields, FunctionFields, PacketFields, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.names.event_names import NameResolver
    from pypwru.nft.render import NftEvent
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord


class Step(NamedTuple):
    """A decoded event.

    Args:
        packet: the sk_buff, and the task and CPU.
        function: the target that was hit.
        flow: headers, device and namespace.
        ktime: ns of CLOCK_MONOTONIC.
        caller: return addresses, innermost first.
        nft: the nft event, or the last verdict on the packet; None if there is none.
        packet_id: packet id.
    """

    packet: PacketFields
    function: FunctionFields
    flow: FlowFields
    ktime: int
    caller: tuple[int, ...]
    nft: NftEvent | None
    packet_id: int


class StepDecoder:
    """Decoder of records.

    Args:
        layout: the layout of records, with the parts ``caller`` and ``packet_id``.
        names: the name resolver.
    """

    def __init__(self, layout: RecordLayout, names: NameResolver) -> None:
        self._names = names
        self._splitter = RecordSplitter(layout, (Part.FUNCTION, Part.NFT), names.rule)

    def decode(self, records: Sequence[RawRecord]) -> list[Step]:
        """Decode events, at least one."""
        parts = self._splitter.split(records)
        columns = (Part.PACKET, Part.FUNCTION, Part.FLOW)
        packets, functions, flows = (list(map(DECODERS[one], parts[one])) for one in columns)
        callers = map(DECODERS[Part.CALLER], parts[Part.CALLER])
        packet_ids = (number for (number,) in map(DECODERS[Part.PACKET_ID], parts[Part.PACKET_ID]))
        rows = zip(
            packets,
            functions,
            flows,
            parts[Part.TIME],
            callers,
            self._nft_events(parts, len(records)),
            packet_ids,
            strict=True,
        )
        return [Step(*row) for row in rows]

    def _nft_events(self, parts: Mapping[Part, Sequence[Any]], count: int) -> list[NftEvent | None]:
        if Part.NFT not in parts:
            return [None] * count
        read = DECODERS[Part.NFT]
        return [render.decode(read(part), self._names.chain) for part in parts[Part.NFT]]
