"""Limit the number of events (--output-limit-lines), for all outputs alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.packets.tracker import is_free_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.wire.record import RawRecord


class EventLimit:
    """Passes a limited number of events.

    Args:
        max_events: number of events; 0 for no limit.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._passed = 0

    def take(self, batch: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """Return the records of ``batch`` up to the limit. Free records don't count."""
        if not self._max_events:
            return batch
        for index, record in enumerate(batch):
            if is_free_record(record):
                continue
            if self.is_reached:
                return batch[:index]
            self._passed += 1
        return batch

    @property
    def is_reached(self) -> bool:
        """Whether the limit is reached; always false without one."""
        return self._passed >= self._max_events > 0
