"""The events of a packet, decoded for both formats of a journey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.events.wire import wire
from pypwru.output import nft
from pypwru.output.cutting import READERS, Cutter
from pypwru.output.parts import Flow, Function, Packet, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.output.nft import Said
    from pypwru.resolve.event_names import Names


class Step(NamedTuple):
    """A decoded event.

    Args:
        packet: the sk_buff, and the task and CPU.
        function: the target that was hit.
        flow: headers, device and namespace.
        ktime: ns of CLOCK_MONOTONIC.
        caller: return addresses, innermost first.
        said: the nft event, or the last verdict on the packet; None if there is none.
        identity: packet id; 0 if unknown.
    """

    packet: Packet
    function: Function
    flow: Flow
    ktime: int
    caller: tuple[int, ...]
    said: Said | None
    identity: int


class Steps:
    """Decoder of records.

    Args:
        config: of the run; its records have the parts ``caller`` and ``identity``.
        names: the name resolver.
    """

    def __init__(self, config: Config, names: Names) -> None:
        self._names = names
        self._cutter = Cutter(wire(config), (Part.FUNCTION, Part.NFT), names.rule)

    def of(self, sights: Sequence[Slices]) -> list[Step]:
        """Decode events, at least one."""
        parts = self._cutter.parts(sights)
        columns = (Part.PACKET, Part.FUNCTION, Part.FLOW)
        packets, functions, flows = (list(map(READERS[one], parts[one])) for one in columns)
        callers = map(READERS[Part.CALLER], parts[Part.CALLER])
        identities = (number for (number,) in map(READERS[Part.IDENTITY], parts[Part.IDENTITY]))
        rows = zip(
            packets,
            functions,
            flows,
            parts[Part.TIME],
            callers,
            self._said(parts, len(sights)),
            identities,
            strict=True,
        )
        return [Step(*row) for row in rows]

    def _said(self, parts: Mapping[Part, Sequence[Any]], count: int) -> list[Said | None]:
        if Part.NFT not in parts:
            return [None] * count
        read = READERS[Part.NFT]
        return [nft.said(read(part), self._names.chain) for part in parts[Part.NFT]]
