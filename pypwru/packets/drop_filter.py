"""Filter for packets that are dropped in the end (--drops), each with its complete path.

The events of a packet are held until the packet is freed, and are then passed on in one go, or
discarded.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pypwru.packets.history import PacketHistories, PacketHistory
from pypwru.packets.tracker import EndReason
from pypwru.wire.drop_flag import flag_drop_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.discovery.targets import Targets
    from pypwru.packets.outcome import IsDrop
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord


class DropFilter:
    """A stage of the pipeline that passes on the events of dropped packets only.

    Args:
        layout: the layout of records; they have a packet id.
        targets: of the run.
        is_drop: whether a function with a drop reason drops packets.
        clock: returns CLOCK_MONOTONIC, ns.
    """

    def __init__(
        self,
        layout: RecordLayout,
        targets: Targets,
        is_drop: IsDrop,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.evicted_events = 0
        """Events that were discarded for lack of room, of packets not dropped until then."""
        self._histories = PacketHistories(layout, targets, is_drop, self._on_complete, clock)
        self._ready: list[RawRecord] = []

    def take(self, batch: Sequence[RawRecord]) -> list[RawRecord]:
        """Process a batch, also an empty one, which advances timeouts.

        Returns:
            The events of packets that turned out to be dropped, each packet's in order, the event
            that dropped it marked (``drop_flag``), and its free record at the end.
        """
        self._histories.take(batch)
        return self._pop_ready()

    def finish(self) -> list[RawRecord]:
        """Return the events of the packets that are dropped so far, at the end of the trace."""
        self._histories.finish()
        return self._pop_ready()

    def _pop_ready(self) -> list[RawRecord]:
        ready, self._ready = self._ready, []
        return ready

    def _on_complete(self, history: PacketHistory, reason: EndReason) -> None:
        drop = history.outcome.drop
        if drop is None:
            self.evicted_events += len(history.events) * (reason is EndReason.EVICTED)
            return
        self._ready += [
            flag_drop_event(event) if event is drop else event for event in history.events
        ]
        if history.free_record is not None:
            self._ready.append(history.free_record)
