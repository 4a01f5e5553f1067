"""What stands between the ring and what shows records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pypwru.config import Config
from pypwru.events.judged import Judged
from pypwru.events.record import Slices
from pypwru.events.wire import wire
from pypwru.output.held import Held
from pypwru.output.nft_asked import Asked
from pypwru.output.nft_source import NftSource

Batches = Sequence[Sequence[Slices]]


class Stages:
    """Records on their way: held for the texts of rules, chosen by what nftables said.

    Args:
        config: of the run.
        names: the address that a record carries -> name; may grow.
        nft: where names and texts come from.
    """

    def __init__(self, config: Config, names: Mapping[int, str], nft: NftSource) -> None:
        layout = wire(config)
        self._held = Held(nft.texts, layout) if nft.texts else None
        self._judged: Judged | None = None
        if config.filters_nft:
            asked = Asked(config, layout, nft.chain, nft.texts)
            self._judged = Judged(asked.meets, asked.judges, names)

    def take(self, batch: Sequence[Slices]) -> Batches:
        """Take a batch, also an empty one, and give those that are to be seen now."""
        return self._chosen(self._held.take(batch) if self._held else (batch,))

    def finish(self) -> Batches:
        """Give what is held; waits a second at most."""
        return self._chosen(self._held.finish() if self._held else ())

    def _chosen(self, batches: Batches) -> Batches:
        return [self._judged.take(batch) for batch in batches] if self._judged else batches

    def lost(self) -> dict[str, int]:
        """What was thrown away, by cause."""
        return {"held": self._judged.overflowed} if self._judged else {}
