"""A packet's sights as fields: what both forms of a journey are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.events.wire import wire
from pypwru.output import nft
from pypwru.output.cutting import Cutter
from pypwru.output.parts import READERS, Flow, Function, Packet, Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.output.columns import Names
    from pypwru.output.nft import Said


class Step(NamedTuple):
    """A sight.

    Args:
        packet: who saw it.
        function: where.
        flow: what the packet was.
        ktime: when; ns.
        caller: return addresses.
        said: of it by nftables, now or last.
        identity: of the packet; 0 where it isn't known.
    """

    packet: Packet
    function: Function
    flow: Flow
    ktime: int
    caller: tuple[int, ...]
    said: Said | None
    identity: int


class Steps:
    """Takes records apart.

    Args:
        config: what they have; among it caller and identity.
        names: of what is in them.
    """

    def __init__(self, config: Config, names: Names) -> None:
        self._names = names
        self._cutter = Cutter(wire(config), (Part.FUNCTION, Part.NFT), names.rule)

    def of(self, sights: Sequence[Slices]) -> list[Step]:
        """The step of each sight; there is one."""
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
