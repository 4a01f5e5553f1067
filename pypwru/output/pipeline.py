"""The pipeline between the ring reader and the outputs: delay for rule texts, then filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pypwru.wire.record import RawRecord

if TYPE_CHECKING:
    from pypwru.discovery.targets import Targets
    from pypwru.needs import Needs
    from pypwru.nft.match import NftCriteria
    from pypwru.nft.packet_filter import NftPacketFilter
    from pypwru.nft.service import NftSource
    from pypwru.packets.outcome import IsDrop
    from pypwru.wire.layout import RecordLayout

Batches = Sequence[Sequence[RawRecord]]


class Pipeline:
    """The stages of a run, in order; each is present only if an option needs it.

    1. Delay batches until the texts of their rules are known.
    2. Keep packets that --filter-nft-* matches.
    3. Keep packets that are dropped in the end (--drops).

    Args:
        needs: of the run.
        layout: the layout of records.
        nft_criteria: of --filter-nft-*; None without them.
        targets: of the run.
        nft: chain names and rule texts.
        is_drop: (address, drop reason) to whether the event drops its packet.
    """

    def __init__(
        self,
        needs: Needs,
        layout: RecordLayout,
        nft_criteria: NftCriteria | None,
        targets: Targets,
        nft: NftSource,
        is_drop: IsDrop,
    ) -> None:
        self._text_delay: TextDelay | None = None
        self._nft_filter: NftPacketFilter | None = None
        self._drop_filter: DropFilter | None = None
        if nft.texts:
            from pypwru.nft.text_delay import TextDelay

            self._text_delay = TextDelay(nft.texts, layout)
        if nft_criteria is not None:
            from pypwru.nft.match import NftMatcher
            from pypwru.nft.packet_filter import NftPacketFilter

            matcher = NftMatcher(nft_criteria, layout, nft.chain, nft.texts)
            self._nft_filter = NftPacketFilter(layout, matcher.matches, targets)
        if needs.drop_filter:
            from pypwru.packets.drop_filter import DropFilter

            self._drop_filter = DropFilter(layout, targets, is_drop)

    def take(self, batch: Sequence[RawRecord]) -> Batches:
        """Process a batch and return the batches that are ready for the outputs.

        Args:
            batch: records in ring order; may be empty, which advances timeouts.
        """
        return self._filter(self._text_delay.take(batch) if self._text_delay else (batch,))

    def finish(self) -> Batches:
        """Return the remaining batches at the end of a run; waits one second at most for texts."""
        found = self._filter(self._text_delay.finish() if self._text_delay else ())
        return [*found, self._drop_filter.finish()] if self._drop_filter else found

    def _filter(self, batches: Batches) -> Batches:
        if self._nft_filter:
            batches = [self._nft_filter.take(batch) for batch in batches]
        if self._drop_filter:  # an empty batch still advances its timeout
            batches = [self._drop_filter.take(batch) for batch in batches or ((),)]
        return batches

    def lost(self) -> dict[str, int]:
        """Return the number of events that a stage evicted for lack of room, by cause."""
        stages = [stage for stage in (self._nft_filter, self._drop_filter) if stage]
        return {"pending": sum(stage.evicted_events for stage in stages)} if stages else {}
