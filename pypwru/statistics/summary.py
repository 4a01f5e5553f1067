"""Summary of a trace at some moment, in plain values: the input of all reports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.events.lives import sights
from pypwru.events.wire import wire
from pypwru.statistics.flows import ENDS, Flow, Flows
from pypwru.statistics.paths import Paths
from pypwru.statistics.tallies import Drop, Rule, Tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.kernel.bpf_objects import Runs
    from pypwru.resolve.event_names import Names
    from pypwru.statistics.latencies import Latency

Key = TypeVar("Key")

BUSIEST = 1000
"""Flows that a summary lists."""
NANOSECONDS = 1_000_000_000


class Hits(NamedTuple):
    """Events of a function.

    Args:
        function: text.
        hits: number of events.
        rate: events/s.
    """

    function: str
    hits: int
    rate: float


class Dropped(NamedTuple):
    """Drops of one reason at one code location.

    Args:
        drop: reason and location.
        drops: number of packets, each counted at the outermost function that dropped it.
        events: number of drop events, including those of nested functions.
    """

    drop: Drop
    drops: int
    events: int


class Spoken(NamedTuple):
    """Events of a rule or policy with one verdict."""

    rule: Rule
    events: int


class Hop(NamedTuple):
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


class Handler(NamedTuple):
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
        packets: number of packets: distinct packet_id, or sk_buffs where that is unknown.
        flows: number of flows that are counted separately.
        flow_events_beyond: events of further flows.
        packets_let_go: sk_buffs that were evicted from the tracker before a free event.
        functions: events by function.
        drops: by reason and location.
        rules: events by nftables rule and verdict.
        busiest: the ``BUSIEST`` flows with most events.
        latency: from the first to the last event of each packet; None before the first packet.
        hops: by functions of both events; the largest maximum first.
        account: counters of the session, as in the last line of the log.
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
    flow_events_beyond: int
    packets_let_go: int
    functions: Sequence[Hits]
    drops: Sequence[Dropped]
    rules: Sequence[Spoken]
    busiest: Sequence[Flow]
    latency: Latency | None
    hops: Sequence[Hop]
    account: Mapping[str, int]
    throttled: Mapping[str, int]
    cost: Sequence[Handler] | None


class Told(NamedTuple):
    """Counters of the session, besides its records.

    Args:
        account: as of Summary.
        throttled: as of Summary.
        runs: handler -> number of runs and ns; None if the kernel doesn't count them.
    """

    account: Mapping[str, int]
    throttled: Mapping[str, int]
    runs: Mapping[str, Runs] | None


class Statistics:
    """Counts what a trace produces: takes batches of records, including free records, as the other
    outputs do.

    Args:
        config: of the run.
        names: resolver of names.
        traced: targets: address of a record -> name. Not copied; may grow.
        wall: clock in ns since the epoch.
        monotonic: clock in ns.
    """

    def __init__(
        self,
        config: Config,
        names: Names,
        traced: Mapping[int, str],
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        form = wire(config)
        self._names = names
        self._tallies = Tallies(config, form, names)
        self._paths = Paths(form, traced)
        self._flows = Flows()
        self._wall, self._monotonic = wall, monotonic
        self._began, self._start = wall(), monotonic()

    def show(self, batch: Sequence[Slices]) -> None:
        """Count a batch, which may be empty."""
        self._paths.add(batch)
        seen = sights(batch)
        if seen:
            self._tallies.add(seen)
            self._flows.add([record[3][ENDS] for record in seen])

    def summary(self, told: Told, is_final: bool = False) -> Summary:
        """Return the summary so far.

        Args:
            told: counters of the session.
            is_final: the trace is over.
        """
        seconds = max(self._monotonic() - self._start, 1) / NANOSECONDS
        tallies = self._tallies
        return Summary(
            self._began,
            self._wall(),
            seconds,
            is_final,
            tallies.events,
            tallies.events / seconds,
            self._paths.packets,
            len(self._flows),
            self._flows.beyond,
            self._paths.let_go,
            [Hits(name, hits, hits / seconds) for name, hits in _most(tallies.functions)],
            self._dropped(),
            [Spoken(*found) for found in _most(tallies.rules)],
            self._flows.busiest(BUSIEST),
            self._paths.latency(),
            self._hops(),
            told.account,
            told.throttled,
            _cost(told.runs),
        )

    def _dropped(self) -> list[Dropped]:
        drops = self._tallies.drops
        found = [
            Dropped(drop, drops[drop], events) for drop, events in _most(self._tallies.drop_events)
        ]
        return sorted(found, key=lambda row: -row.drops)

    def _hops(self) -> list[Hop]:
        """Return hops by texts of functions: several func parts may have the same text."""
        found: dict[tuple[str, str], list[int]] = {}
        for before, targets in self._paths.after.items():
            source = self._tallies.text(before)
            for behind, (times, total, longest) in targets.items():
                hop = found.setdefault((source, self._tallies.text(behind)), [0, 0, 0])
                hop[0] += times
                hop[1] += total
                hop[2] = max(hop[2], longest)
        hops = [Hop(*ends, *values) for ends, values in found.items()]
        return sorted(hops, key=lambda hop: (-hop.max, -hop.total, hop.source, hop.target))


def _most(counted: Mapping[Key, int]) -> list[tuple[Key, int]]:
    """Return (key, count) sorted by count, the largest first, then by the key's text."""
    return sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))


def _cost(runs: Mapping[str, Runs] | None) -> list[Handler] | None:
    if runs is None:
        return None
    found = [Handler(name, times, total) for name, (total, times) in runs.items() if times]
    return sorted(found, key=lambda handler: -handler.total)
