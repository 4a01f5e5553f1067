"""What stands between the ring and what shows records."""

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
    """Records on their way: held for the texts of rules, chosen by what nftables said and by what
    becomes of their packets.

    Args:
        config: of the run.
        names: the address that a record carries -> name; may grow.
        nft: where names and texts come from.
        drops: (address, drop reason) to whether that is the end of a packet that is thrown away.
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
        """Take a batch, also an empty one, and give those that are to be seen now."""
        return self._chosen(self._held.take(batch) if self._held else (batch,))

    def finish(self) -> Batches:
        """Give what is held; waits a second at most."""
        found = self._chosen(self._held.finish() if self._held else ())
        return [*found, self._dropped.finish()] if self._dropped else found

    def _chosen(self, batches: Batches) -> Batches:
        if self._judged:
            batches = [self._judged.take(batch) for batch in batches]
        if self._dropped:  # whose packets also wait for time to pass
            batches = [self._dropped.take(batch) for batch in batches or ((),)]
        return batches

    def lost(self) -> dict[str, int]:
        """What was thrown away, by cause."""
        stages = [stage for stage in (self._judged, self._dropped) if stage]
        return {"held": sum(stage.overflowed for stage in stages)} if stages else {}
