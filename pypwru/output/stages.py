"""What stands between the ring and the printer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pypwru.config import Config
from pypwru.events.judged import Judged
from pypwru.events.record import Slices
from pypwru.events.wire import wire
from pypwru.output.held import Held, Show
from pypwru.output.nft_asked import Asked
from pypwru.output.nft_source import NftSource
from pypwru.output.sink import OutputClosed


class Stages:
    """Records on their way: held for the texts of rules, chosen by what nftables said, shown.

    Args:
        config: of the run.
        shown: takes those that are to be seen.
        names: the address that a record carries -> name; may grow.
        nft: where names and texts come from.
    """

    def __init__(
        self, config: Config, shown: Show, names: Mapping[int, str], nft: NftSource
    ) -> None:
        self._judged: Judged | None = None
        self._held: Held | None = None
        self._show = shown
        layout = wire(config)
        if config.filters_nft:
            asked = Asked(config, layout, nft.chain, nft.texts)
            self._judged = Judged(self._show, asked.meets, asked.judges, names)
            self._show = self._judged.show
        if nft.texts:
            self._held = Held(self._show, nft.texts, layout)
            self._show = self._held.show

    def show(self, batch: Sequence[Slices]) -> bool:
        """Take a batch, also an empty one; true when no more are wanted."""
        return self._show(batch)

    def finish(self) -> None:
        """Show what is held; waits a second at most."""
        if self._held:
            with suppress(OutputClosed):
                self._held.finish()

    def lost(self) -> dict[str, int]:
        """What was thrown away, by cause."""
        return {"held": self._judged.overflowed} if self._judged else {}
