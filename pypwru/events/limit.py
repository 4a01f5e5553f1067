"""How many records are shown, by whatever shows them."""

from __future__ import annotations

from collections.abc import Sequence

from pypwru.events.record import Slices


class Limit:
    """Lets so many records through.

    Args:
        most: 0 for any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed = 0

    def cut(self, batch: Sequence[Slices]) -> Sequence[Slices]:
        """What of ``batch`` there is still room for."""
        if self._most:
            batch = batch[: self._most - self._passed]
            self._passed += len(batch)
        return batch

    @property
    def reached(self) -> bool:
        """Whether nothing more is let through."""
        return self._passed >= self._most > 0
