"""The pipeline between the ring reader and the outputs: delay for rule texts, then filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pypwru.events.record import Slices
from pypwru.events.wire import wire

if TYPE_CHECKING:
    from pypwru.config import Config
    from pypwru.events.fate import Drops
    from pypwru.events.judged import Judged
    from pypwru.output.nft_source import NftSource

Batches = Sequence[Sequence[Slices]]


class Stages:
    """The stages of a run, in order; each is present only if an option needs it.

    1. Delay batches until the texts of their rules are known.
    2. Keep packets that --filter-nft-* matches.
    3. Keep packets that are dropped in the end (--drops).

    Args:
        config: of the run.
        names: address in a record -> name, of every attached target; shared, grows during the run.
        nft: chain names and rule texts.
        drops: (address, drop reason) to whether the event drops its packet.
    """

    def __init__(
        self, config: Config, names: Mapping[int, str], nft: NftSource, drops: Drops
    ) -> None:
        layout = wire(config)
        self._held: Held | None = None
        self._judged: Judged | None = None
        self._dropped: Dropped | None = None
        if nft.texts:
            from pypwru.output.held import Held

            self._held = Held(nft.texts, layout)
        if config.filters_nft:
            from pypwru.events.judged import Judged
            from pypwru.output.nft_asked import Asked

            asked = Asked(config, layout, nft.chain, nft.texts)
            self._judged = Judged(asked.meets, asked.judges, names)
        if config.drops:
            from pypwru.events.dropped import Dropped

            self._dropped = Dropped(layout, names, drops)

    def take(self, batch: Sequence[Slices]) -> Batches:
        """Process a batch and return the batches that are ready for the outputs.

        Args:
            batch: records in ring order; may be empty, which advances timeouts.
        """
        return self._chosen(self._held.take(batch) if self._held else (batch,))

    def finish(self) -> Batches:
        """Return the remaining batches at the end of a run; waits one second at most for texts."""
        found = self._chosen(self._held.finish() if self._held else ())
        return [*found, self._dropped.finish()] if self._dropped else found

    def _chosen(self, batches: Batches) -> Batches:
        if self._judged:
            batches = [self._judged.take(batch) for batch in batches]
        if self._dropped:  # an empty batch still advances its timeout
            batches = [self._dropped.take(batch) for batch in batches or ((),)]
        return batches

    def lost(self) -> dict[str, int]:
        """Return the number of events that a stage evicted for lack of room, by cause."""
        stages = [stage for stage in (self._judged, self._dropped) if stage]
        return {"held": sum(stage.overflowed for stage in stages)} if stages else {}
