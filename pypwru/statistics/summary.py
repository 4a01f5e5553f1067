"""What is known of a trace at some moment, in plain values: what all reports are made of."""

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
    from pypwru.output.columns import Names
    from pypwru.statistics.latencies import Latency

Key = TypeVar("Key")

BUSIEST = 1000
"""Flows of which a summary has the ends."""
NANOSECONDS = 1_000_000_000


class Hits(NamedTuple):
    """A function.

    Args:
        rate: in a second.
    """

    function: str
    hits: int
    rate: float


class Dropped(NamedTuple):
    """Drops of one reason at one place.

    Args:
        drops: of packets, each at the outermost function that dropped it.
        events: sights that tell of a drop.
    """

    drop: Drop
    drops: int
    events: int


class Spoken(NamedTuple):
    """How often a rule said what."""

    rule: Rule
    events: int


class Hop(NamedTuple):
    """From one sight of an sk_buff to the next one: functions, and nanoseconds."""

    source: str
    target: str
    times: int
    total: int
    max: int

    @property
    def mean(self) -> int:
        """Nanoseconds."""
        return self.total // self.times


class Handler(NamedTuple):
    """What a handler cost: programs that run it together.

    Args:
        hits: runs that the kernel counted.
        total: their nanoseconds.
    """

    handler: str
    hits: int
    total: int

    @property
    def mean(self) -> int:
        """Nanoseconds a hit."""
        return self.total // self.hits if self.hits else 0


class Summary(NamedTuple):
    """All of it; what is in a sequence is sorted, the most first.

    Args:
        began, now: on the wall, ns since the epoch.
        seconds: from one to the other, by a clock that nobody sets.
        is_final: whether the trace is over.
        events: sights.
        rate: of them in a second.
        flow_events_beyond: of flows for which there was no room.
        packets_let_go: sk_buffs that were not followed to their end.
        functions: all that were hit.
        busiest: the flows with most events.
        latency: from first to last sight of each packet; None before the first packet.
        hops: those that took longest first.
        account: where every sight went: as the last line of the log has it.
        throttled: functions that were, and how many of their sights were left out.
        cost: None where the kernel doesn't tell.
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
    """What the session tells beside its records.

    Args:
        account: where every sight went.
        throttled: function -> sights that were left out.
        runs: handler -> how often it ran, and how long; None where the kernel doesn't tell.
    """

    account: Mapping[str, int]
    throttled: Mapping[str, int]
    runs: Mapping[str, Runs] | None


class Statistics:
    """Sums up a trace: takes batches of records, ends among them, as other outputs do.

    Args:
        config: of the run.
        names: of what is in records.
        traced: the address that a record carries -> name, of everything that is traced; may grow.
        wall: ns since the epoch.
        monotonic: ns.
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
        """What is known now."""
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
        """By the texts of functions: of one there may be several slices."""
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
    """The most first; of as many, by their texts."""
    return sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))


def _cost(runs: Mapping[str, Runs] | None) -> list[Handler] | None:
    if runs is None:
        return None
    found = [Handler(name, times, total) for name, (total, times) in runs.items() if times]
    return sorted(found, key=lambda handler: -handler.total)
