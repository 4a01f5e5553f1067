"""Summary of a trace at some moment, in plain values: the input of all reports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.packets.tracker import without_free_records
from pypwru.statistics.counts import Drop, EventCounts, RuleVerdict
from pypwru.statistics.flows import TUPLE_SLICE, Flow, Flows
from pypwru.statistics.latency_tracker import LatencyTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.discovery.targets import Targets
    from pypwru.kernel.bpf_info import RunStats
    from pypwru.names.event_names import NameResolver
    from pypwru.statistics.latencies import Latency
    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_KeyT = TypeVar("_KeyT")

MAX_TOP_FLOWS = 1000
"""Flows that a summary lists."""
NANOSECONDS = 1_000_000_000


class FunctionCount(NamedTuple):
    """Events of a function.

    Args:
        function: text.
        hits: number of events.
        rate: events/s.
    """

    function: str
    hits: int
    rate: float


class DropCount(NamedTuple):
    """Drops of one reason at one code location.

    Args:
        drop: reason and location.
        drops: number of packets, each counted at the outermost function that dropped it.
        events: number of drop events, including those of nested functions.
    """

    drop: Drop
    drops: int
    events: int


class RuleCount(NamedTuple):
    """Events of a rule or policy with one verdict."""

    rule: RuleVerdict
    events: int


class HopLatency(NamedTuple):
    """Hops from one event of an sk_buff to its next one.

    Args:
        source, target: functions of the two events.
        times: number of hops.
        total: sum, ns.
        max: ns.
    """

    source: str
    target: str
    times: int
    total: int
    max: int

    @property
    def mean(self) -> int:
        """Mean time, ns."""
        return self.total // self.times


class HandlerCost(NamedTuple):
    """Run time of a handler: of all BPF programs that were loaded from it.

    Args:
        handler: name.
        hits: runs, as the kernel counts them (``bpf_prog_info.run_cnt``).
        total: ns (``run_time_ns``).
    """

    handler: str
    hits: int
    total: int

    @property
    def mean(self) -> int:
        """ns per hit."""
        return self.total // self.hits if self.hits else 0


class Summary(NamedTuple):
    """The summary; sequences are sorted, the largest first.

    Args:
        began, now: start of the trace, and time of the summary; ns since the epoch.
        seconds: from ``began`` to ``now``, by CLOCK_MONOTONIC.
        is_final: the trace is over.
        events: number of events, without free records.
        rate: events/s.
        packets: number of packets: of distinct packet_id.
        flows: number of flows that are counted separately.
        flow_events_over_limit: events of further flows.
        skbs_evicted: sk_buffs that were evicted from the tracker before a free event.
        functions: events by function.
        drops: by reason and location.
        rules: events by nftables rule and verdict.
        top_flows: the ``MAX_TOP_FLOWS`` flows with most events.
        latency: from the first to the last event of each packet; None before the first packet.
        hops: by functions of both events; the largest maximum first.
        counters: counters of the session, as in the last line of the log.
        throttled: function -> events over --max-hits, which were skipped.
        cost: by handler; None if the kernel doesn't count runs of programs.
    """

    began: int
    now: int
    seconds: float
    is_final: bool
    events: int
    rate: float
    packets: int
    flows: int
    flow_events_over_limit: int
    skbs_evicted: int
    functions: Sequence[FunctionCount]
    drops: Sequence[DropCount]
    rules: Sequence[RuleCount]
    top_flows: Sequence[Flow]
    latency: Latency | None
    hops: Sequence[HopLatency]
    counters: Mapping[str, int]
    throttled: Mapping[str, int]
    cost: Sequence[HandlerCost] | None


class RunCounters(NamedTuple):
    """Counters of the session, besides its records.

    Args:
        counters: as of Summary.
        throttled: as of Summary.
        runs: handler -> number of runs and ns; None if the kernel doesn't count them.
    """

    counters: Mapping[str, int]
    throttled: Mapping[str, int]
    runs: Mapping[str, RunStats] | None


class Statistics:
    """Counts what a trace produces.

    It takes batches of records, including free records, as the other outputs do.

    Args:
        layout: the layout of records.
        names: resolver of names.
        targets: of the run.
        wall: clock in ns since the epoch.
        monotonic: clock in ns.
    """

    def __init__(
        self,
        layout: RecordLayout,
        names: NameResolver,
        targets: Targets,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._names = names
        self._counts = EventCounts(layout, names)
        self._tracker = LatencyTracker(layout, targets)
        self._flows = Flows()
        self._wall, self._monotonic = wall, monotonic
        self._began, self._start = wall(), monotonic()

    def show(self, batch: Sequence[RawRecord]) -> None:
        """Count a batch, which may be empty."""
        self._tracker.add(batch)
        events = without_free_records(batch)
        if events:
            self._counts.add(events)
            self._flows.add([record[3][TUPLE_SLICE] for record in events])

    def summary(self, run_counters: RunCounters, is_final: bool = False) -> Summary:
        """Return the summary so far.

        Args:
            run_counters: counters of the session.
            is_final: the trace is over.
        """
        seconds = max(self._monotonic() - self._start, 1) / NANOSECONDS
        counts = self._counts
        return Summary(
            self._began,
            self._wall(),
            seconds,
            is_final,
            counts.events,
            counts.events / seconds,
            self._tracker.packets,
            len(self._flows),
            self._flows.events_over_limit,
            self._tracker.evicted,
            [
                FunctionCount(name, hits, hits / seconds)
                for name, hits in _sort_by_count(counts.functions)
            ],
            self._drop_counts(),
            [RuleCount(*found) for found in _sort_by_count(counts.rules)],
            self._flows.top(MAX_TOP_FLOWS),
            self._tracker.latency(),
            self._hop_latencies(),
            run_counters.counters,
            run_counters.throttled,
            _handler_costs(run_counters.runs),
        )

    def _drop_counts(self) -> list[DropCount]:
        drops = self._counts.drops
        found = [
            DropCount(drop, drops[drop], events)
            for drop, events in _sort_by_count(self._counts.drop_events)
        ]
        return sorted(found, key=lambda row: -row.drops)

    def _hop_latencies(self) -> list[HopLatency]:
        """Return hops by texts of functions: several func parts may have the same text."""
        found: dict[tuple[str, str], list[int]] = {}
        for source_func, targets in self._tracker.hops_by_source.items():
            source = self._counts.text(source_func)
            for target_func, (times, total, longest) in targets.items():
                hop = found.setdefault((source, self._counts.text(target_func)), [0, 0, 0])
                hop[0] += times
                hop[1] += total
                hop[2] = max(hop[2], longest)
        hops = [HopLatency(*functions, *values) for functions, values in found.items()]
        return sorted(hops, key=lambda hop: (-hop.max, -hop.total, hop.source, hop.target))


def _sort_by_count(counted: Mapping[_KeyT, int]) -> list[tuple[_KeyT, int]]:
    """Return (key, count) sorted by count, the largest first, then by the key's text."""
    return sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))


def _handler_costs(runs: Mapping[str, RunStats] | None) -> list[HandlerCost] | None:
    if runs is None:
        return None
    found = [HandlerCost(name, times, total) for name, (total, times) in runs.items() if times]
    return sorted(found, key=lambda handler: -handler.total)
