"""A summary as a text report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pypwru.statistics.figures import duration, grouped, rate
from pypwru.statistics.losses import asked_for, lost
from pypwru.statistics.summary import NANOSECONDS, Summary
from pypwru.statistics.tables import TABLES, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pypwru.statistics.latencies import Latency

ROWS = 10


def report(summary: Summary) -> str:
    """Return the report, with a newline at its end; empty tables are left out."""
    lines = [*_head(summary), *_losses(summary), *_latency(summary.latency), *_cost(summary)]
    for table in TABLES:
        lines += _table(table, table.rows(summary))
    return "".join(f"{line}\n" for line in lines)


def _head(summary: Summary) -> Iterator[str]:
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(summary.now // NANOSECONDS))
    state = "the whole trace" if summary.is_final else "so far"
    yield f"Statistics at {when}, of {summary.seconds:,.1f} s, {state}:"
    yield f"  events {grouped(summary.events)} ({rate(summary.rate)} a second)"
    yield f"  packets {grouped(summary.packets)}"
    yield f"  flows {grouped(summary.flows)}"


def _losses(summary: Summary) -> Iterator[str]:
    missing = lost(summary.account)
    if missing:
        yield "  INCOMPLETE, there was more than is counted here:"
        yield from _causes(missing)
    left_out = asked_for(summary.account)
    if left_out:
        yield "  left out by sampling, limits and filters:"
        yield from _causes(left_out)


def _causes(causes: Mapping[str, int]) -> Iterator[str]:
    width = max(len(grouped(number)) for number in causes.values())
    for cause, number in causes.items():
        yield f"    {grouped(number):>{width}} {cause}"


def _latency(latency: Latency | None) -> Iterator[str]:
    if latency is None:
        return
    ranks = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99, "max": latency.max}
    text = ", ".join(f"{name} {duration(value)}" for name, value in ranks.items())
    sampled = "" if latency.exact else " (p50 to p99 of a sample)"
    yield f"  from a packet's first to its last event: {text}{sampled}"


def _cost(summary: Summary) -> Iterator[str]:
    if not summary.cost:
        return
    share = sum(handler.total for handler in summary.cost) / NANOSECONDS / summary.seconds
    yield f"  the handlers took {share:.2%} of one CPU"


def _table(table: Table, rows: Sequence[Any]) -> Iterator[str]:
    if not rows:
        return
    of = f" ({ROWS} of {grouped(len(rows))})" if len(rows) > ROWS else ""
    yield f"{table.title}{of}"
    texts = [[column.title for column in table.columns]]
    texts += [[column.text(column.value(row)) for column in table.columns] for row in rows[:ROWS]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        cells = (
            f"{cell:>{width}}" if column.is_number else f"{cell:<{width}}"
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        )
        yield "  " + "  ".join(cells).rstrip()
