"""Batches of records, cut into their parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from pypwru.events.drop_flag import FLAG_SIZE
from pypwru.output.nft_part import NOTHING, with_text
from pypwru.output.parts import KIND, Part

if TYPE_CHECKING:
    from pypwru.events.record import Slices
    from pypwru.events.wire import Wire

Parts = Mapping[Part, Sequence[Any]]
"""A batch: each part of its records."""


class Cutter:
    """Cuts batches.

    Args:
        wire: the layout of records.
        by_kind: parts behind which the record's kind goes.
        rule: from a part of nftables, and when it was said, to text and comment of the rule; None
            where it isn't known.
        locates: whether LOCATION is wanted, which takes records with a caller.
    """

    def __init__(
        self,
        wire: Wire,
        by_kind: Collection[Part],
        rule: Callable[[bytes, int], tuple[str, str] | None],
        locates: bool = False,
    ) -> None:
        layout = wire.parts
        self.tail = [Part(name) for name in layout]
        """What is behind ``struct event``."""
        self._cut = Struct("".join(f"{part.size}s{-part.size % 8}x" for part in layout.values()))
        self._locates = locates
        self._by_kind = by_kind
        self._rule = rule

    def parts(self, batch: Sequence[Slices]) -> Parts:
        """The parts of ``batch``, which isn't empty."""
        packets, functions, times, flows, tails = zip(*batch, strict=True)
        parts = {
            Part.PACKET: packets,
            Part.FUNCTION: functions,
            Part.TIME: times,
            Part.FLOW: flows,
        }
        if self.tail:
            parts |= zip(self.tail, zip(*map(self._cut.unpack, tails), strict=True), strict=True)
        if self._by_kind:
            kinds = [packet[KIND] for packet in packets]
            for part in self._by_kind:
                if part in parts:
                    parts[part] = tuple(map(operator.add, parts[part], kinds))
        if self._locates:
            flows_ends = (flow[-FLAG_SIZE:] for flow in flows)
            parts[Part.LOCATION] = tuple(map(operator.add, flows_ends, parts[Part.CALLER]))
        if Part.NFT_AT in parts:
            parts[Part.NFT] = tuple(map(self._with_rule, parts[Part.NFT], parts[Part.NFT_AT]))
        return parts

    def _with_rule(self, said: bytes, at: bytes) -> bytes:
        """What was said, with the rule's text behind it: which one that is depends on the time."""
        if said.startswith(NOTHING):
            return said
        rule = self._rule(said, int.from_bytes(at, "little"))
        return with_text(said, *rule) if rule else said
