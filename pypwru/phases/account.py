"""What became of every event of a session: printed, suppressed, or lost by a named cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.packets.count import make_packet_counter
from pypwru.ring.counters import (
    count_evicted,
    count_lost_ids,
    count_recursion_misses,
    count_suppressed,
    read_counters,
    summarize,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.attach.report import AttachReport
    from pypwru.phases.load import Loaded
    from pypwru.phases.plan import Plan
    from pypwru.ring.counters import Counters
    from pypwru.wire.record import RawRecord


class Account:
    """The account of a session's events.

    Args:
        plan: of the session.
        loaded: its programs and maps.
        report: of what is attached.
    """

    def __init__(self, plan: Plan, loaded: Loaded, report: AttachReport) -> None:
        self._plan = plan
        self._loaded = loaded
        self._report = report
        self._packets = make_packet_counter(loaded.layout)
        self._missed: int | None = None  # known once all is detached

    def add(self, batch: Sequence[RawRecord]) -> None:
        """Count the packets of a batch; each batch once, in the order of the ring."""
        if self._packets:
            self._packets.add(batch)

    def handler_counters(self) -> Counters:
        """Return the counters of the handlers so far, summed over CPUs."""
        return read_counters(self._loaded.map_fds["counters"])

    @property
    def is_detached(self) -> bool:
        """Whether ``detach`` was called."""
        return self._missed is not None

    def detach(self) -> None:
        """Read what ends with the probes; to be called just before they are detached."""
        self._missed = self._count_missed()

    def summarize(self, shown: int, evicted: Mapping[str, int]) -> dict[str, int]:
        """Return what became of every event, by counter; complete once detached.

        Args:
            shown: number of events that were output.
            evicted: events that the pipeline lost, by cause.
        """
        counters = self.handler_counters()
        loader, map_fds, needs = self._loaded.loader, self._loaded.map_fds, self._plan.needs
        missed = self._count_missed() if self._missed is None else self._missed
        losses = count_recursion_misses(loader.recursion_misses())
        if self.is_detached:  # maps that handlers still write to can't be iterated reliably
            backend = self._plan.choice.plan.backend
            losses |= count_lost_ids(backend, counters, map_fds, needs)
        losses |= {"missed": missed, **evicted}
        if self.is_detached:
            losses |= count_evicted(counters, map_fds)
        skipped = count_suppressed(counters, needs)
        packets = self._packets.total if self._packets else None
        result = summarize(shown, packets, counters, skipped, losses, self._report)
        data = self._loaded.packets
        return result | (data.summarize(counters) if data else {})

    def _count_missed(self) -> int:
        return sum(count() for count in self._report.missed_counters)
