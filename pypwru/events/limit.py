"""Limit the number of events (--output-limit-lines), for all outputs alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.events.lives import is_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.events.record import Slices


class Limit:
    """Passes a limited number of events.

    Args:
        most: number of events; 0 for no limit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed = 0

    def cut(self, batch: Sequence[Slices]) -> Sequence[Slices]:
        """Return the records of ``batch`` up to the limit. Free records don't count."""
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
        """Whether the limit is reached; always false without one."""
        return self._passed >= self._most > 0
