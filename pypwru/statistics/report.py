"""A summary as a text report."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pypwru.statistics.format import format_count, format_duration, format_rate
from pypwru.statistics.losses import describe_losses, describe_skipped
from pypwru.statistics.summary import NANOSECONDS, Summary
from pypwru.statistics.tables import TABLES, SummaryTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pypwru.statistics.latencies import Latency

MAX_ROWS = 10


def render_report(summary: Summary) -> str:
    """Return the report, with a newline at its end; empty tables are left out."""
    lines = [*_head(summary), *_losses(summary), *_latency(summary.latency), *_cost(summary)]
    for table in TABLES:
        lines += _table(table, table.rows(summary))
    return "".join(f"{line}\n" for line in lines)


def _head(summary: Summary) -> Iterator[str]:
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(summary.now // NANOSECONDS))
    state = "the whole trace" if summary.is_final else "so far"
    yield f"Statistics at {when}, of {summary.seconds:,.1f} s, {state}:"
    yield f"  events {format_count(summary.events)} ({format_rate(summary.rate)} a second)"
    yield f"  packets {format_count(summary.packets)}"
    yield f"  flows {format_count(summary.flows)}"


def _losses(summary: Summary) -> Iterator[str]:
    losses = describe_losses(summary.counters)
    if losses:
        yield "  INCOMPLETE, there was more than is counted here:"
        yield from _cause_lines(losses)
    skipped = describe_skipped(summary.counters)
    if skipped:
        yield "  left out by sampling, limits and filters:"
        yield from _cause_lines(skipped)


def _cause_lines(causes: Mapping[str, int]) -> Iterator[str]:
    width = max(len(format_count(number)) for number in causes.values())
    for cause, number in causes.items():
        yield f"    {format_count(number):>{width}} {cause}"


def _latency(latency: Latency | None) -> Iterator[str]:
    if latency is None:
        return
    ranks = {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99, "max": latency.max}
    text = ", ".join(f"{name} {format_duration(value)}" for name, value in ranks.items())
    sampled = "" if latency.is_exact else " (p50 to p99 of a sample)"
    yield f"  from a packet's first to its last event: {text}{sampled}"


def _cost(summary: Summary) -> Iterator[str]:
    if not summary.cost:
        return
    share = sum(handler.total for handler in summary.cost) / NANOSECONDS / summary.seconds
    yield f"  the handlers took {share:.2%} of one CPU"


def _table(table: SummaryTable, rows: Sequence[Any]) -> Iterator[str]:
    if not rows:
        return
    truncation = f" ({MAX_ROWS} of {format_count(len(rows))})" if len(rows) > MAX_ROWS else ""
    yield f"{table.title}{truncation}"
    texts = [[column.title for column in table.columns]]
    texts += [
        [column.text(column.value(row)) for column in table.columns] for row in rows[:MAX_ROWS]
    ]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        cells = (
            f"{cell:>{width}}" if column.is_number else f"{cell:<{width}}"
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        )
        yield "  " + "  ".join(cells).rstrip()
