"""The splitter of batches of records into their parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from pypwru.events.drop_flag import FLAG_SIZE
from pypwru.output import parts as wire_parts
from pypwru.output.nft_part import NOTHING, nft, with_text
from pypwru.output.parts import KIND, Part

if TYPE_CHECKING:
    from pypwru.events.record import Slices
    from pypwru.events.wire import Wire

Parts = Mapping[Part, Sequence[Any]]
"""A batch by parts: for each part its bytes (TIME: int, ns) in all records, in their order."""
READERS: Mapping[Part, Callable[[bytes], Any]] = {**wire_parts.READERS, Part.NFT: nft}
"""Decoder of each part as a Cutter returns it."""


class Cutter:
    """Splitter of batches, for one layout.

    Args:
        wire: the layout of records.
        by_kind: parts to which the record's kind is appended, since their rendering depends on it.
        rule: (``struct part_nft``, ktime of the nft event) to text and comment of the rule; None if
            they are unknown.
        locates: also compose LOCATION; needs the part ``caller``.
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
        """The parts after ``struct event``, in wire order."""
        self._cut = Struct("".join(f"{part.size}s{-part.size % 8}x" for part in layout.values()))
        self._locates = locates
        self._by_kind = by_kind
        self._rule = rule

    def parts(self, batch: Sequence[Slices]) -> Parts:
        """Split ``batch``, which must not be empty."""
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
        """Append the rule's text to ``struct part_nft``.

        A handle can be reused, so the text depends on the time of the nft event.
        """
        if said.startswith(NOTHING):
            return said
        rule = self._rule(said, int.from_bytes(at, "little"))
        return with_text(said, *rule) if rule else said
