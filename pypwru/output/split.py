"""The splitter of batches of records into their parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from pypwru.nft.record import EMPTY_NFT, append_text, decode_nft
from pypwru.wire import fields as wire_parts
from pypwru.wire.drop_flag import FLAG_SIZE
from pypwru.wire.fields import KIND_SLICE, Part

if TYPE_CHECKING:
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

BatchParts = Mapping[Part, Sequence[Any]]
"""A batch by parts: for each part its bytes (TIME: int, ns) in all records, in their order."""
DECODERS: Mapping[Part, Callable[[bytes], Any]] = {**wire_parts.DECODERS, Part.NFT: decode_nft}
"""Decoder of each part as a RecordSplitter returns it."""


class RecordSplitter:
    """Splitter of batches, for one layout.

    Args:
        layout: the layout of records.
        kind_dependent: parts to which the record's kind is appended, since their rendering depends
            on it.
        rule_text: (``struct part_nft``, ktime of the nft event) to text and comment of the rule;
            None if they are unknown.
        needs_location: also compose LOCATION; needs the part ``caller``.
    """

    def __init__(
        self,
        layout: RecordLayout,
        kind_dependent: Collection[Part],
        rule_text: Callable[[bytes, int], tuple[str, str] | None],
        needs_location: bool = False,
    ) -> None:
        tail_layout = layout.parts
        self.tail_parts = [Part(name) for name in tail_layout]
        """The parts after ``struct event``, in wire order."""
        self._tail_struct = Struct(
            "".join(f"{part.size}s{-part.size % 8}x" for part in tail_layout.values())
        )
        self._needs_location = needs_location
        self._kind_dependent = kind_dependent
        self._rule_text = rule_text

    def split(self, batch: Sequence[RawRecord]) -> BatchParts:
        """Split ``batch``, which must not be empty."""
        packets, functions, times, flows, tails = zip(*batch, strict=True)
        parts = {
            Part.PACKET: packets,
            Part.FUNCTION: functions,
            Part.TIME: times,
            Part.FLOW: flows,
        }
        if self.tail_parts:
            parts |= zip(
                self.tail_parts,
                zip(*map(self._tail_struct.unpack, tails), strict=True),
                strict=True,
            )
        if self._kind_dependent:
            kinds = [packet[KIND_SLICE] for packet in packets]
            for part in self._kind_dependent:
                if part in parts:
                    parts[part] = tuple(map(operator.add, parts[part], kinds))
        if self._needs_location:
            drop_flags = (flow[-FLAG_SIZE:] for flow in flows)
            parts[Part.LOCATION] = tuple(map(operator.add, drop_flags, parts[Part.CALLER]))
        if Part.NFT_TIME in parts:
            parts[Part.NFT] = tuple(
                map(self._append_rule_text, parts[Part.NFT], parts[Part.NFT_TIME])
            )
        return parts

    def _append_rule_text(self, nft_part: bytes, ktime: bytes) -> bytes:
        """Append the rule's text to ``struct part_nft``.

        A handle can be reused, so the text depends on the time of the nft event.
        """
        if nft_part.startswith(EMPTY_NFT):
            return nft_part
        rule = self._rule_text(nft_part, int.from_bytes(ktime, "little"))
        return append_text(nft_part, *rule) if rule else nft_part
