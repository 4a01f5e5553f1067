"""How many records are shown, by whatever shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.events.lives import is_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.events.record import Slices


class Limit:
    """Lets so many sights through.

    Args:
        most: 0 for any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed = 0

    def cut(self, batch: Sequence[Slices]) -> Sequence[Slices]:
        """What of ``batch`` there is still room for; what is no sight takes none."""
        if not self._most:
            return batch
        for index, record in enumerate(batch):
            if is_end(record):
                continue
            if self.reached:
                return batch[:index]
            self._passed += 1
        return batch

    @property
    def reached(self) -> bool:
        """Whether nothing more is let through."""
        return self._passed >= self._most > 0
