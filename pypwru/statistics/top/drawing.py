"""The live table as renderables of rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from pypwru.statistics.format import format_count, format_duration, format_rate
from pypwru.statistics.losses import describe_losses
from pypwru.statistics.tables import TABLES
from pypwru.statistics.top.view import HELP, QUIT, REVERSE, TableView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.statistics.summary import Summary

_FIXED_LINES = 6  # lines besides the rows: head, tabs, titles, foot


def render_screen(summary: Summary, view: TableView, height: int) -> RenderableType:
    """Return the renderable of the whole screen.

    Args:
        summary: with recent rates (``with_recent_rates``).
        view: selected table, order and help.
        height: lines of the screen.
    """
    body = _help() if view.shows_help else _table(summary, view, max(height - _FIXED_LINES, 1))
    return Group(*_head(summary), _tabs(view), body, _foot(view))


def _head(summary: Summary) -> Iterator[Text]:
    lost_count = sum(describe_losses(summary.counters).values())
    yield Text.assemble(
        ("pypwru ", "bold"),
        f"{summary.seconds:,.0f} s  "
        f"events {format_count(summary.events)} ({format_rate(summary.rate)}/s)  "
        f"packets {format_count(summary.packets)}  flows {format_count(summary.flows)}  ",
        (
            f"LOST {format_count(lost_count)}" if lost_count else "nothing lost",
            "bold red" if lost_count else "",
        ),
        no_wrap=True,
        overflow="ellipsis",
    )
    latency = summary.latency
    ranks = latency._asdict() if latency else {}
    texts = [
        f"{name} {format_duration(ranks[name])}" for name in ("p50", "p90", "p99", "max") if ranks
    ]
    yield Text(f"first to last event: {'  '.join(texts) or '-'}", no_wrap=True, overflow="ellipsis")


def _tabs(view: TableView) -> Text:
    tabs = [
        (f" {number} {table.title} ", "reverse" if table is view.table else "")
        for number, table in enumerate(TABLES, start=1)
    ]
    return Text.assemble(*tabs, no_wrap=True, overflow="ellipsis")


def _table(summary: Summary, view: TableView, height: int) -> RichTable:
    order, is_reversed = view.order
    rich_table = RichTable(box=None, pad_edge=False, header_style="bold", expand=False)
    for column in view.table.columns:
        arrow = (" ^" if is_reversed else " v") if column is order else ""
        # On a narrow screen, rich shrinks wrappable columns first: names, not numbers.
        rich_table.add_column(
            _cell(column.title + arrow),
            justify="right" if column.is_number else "left",
            no_wrap=column.is_number,
        )
    for row in view.rows(summary)[:height]:
        rich_table.add_row(
            *(_cell(column.text(column.value(row))) for column in view.table.columns)
        )
    return rich_table


def _cell(text: str) -> Text:
    """Return text that is never wrapped, without markup: names have brackets (IPv6, modules)."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _help() -> RichTable:
    rich_table = RichTable(box=None, pad_edge=False, show_header=False)
    for key, meaning in (
        (f"1-{len(TABLES)}", "another table"),
        ("letter", "sort by the column that has this letter at the bottom"),
        (REVERSE, "turn the order round"),
        (HELP, "this help, and back"),
        (QUIT, "quit, and print the statistics"),
    ):
        rich_table.add_row(Text(key, "bold"), meaning)
    return rich_table


def _foot(view: TableView) -> Text:
    sort_keys = "  ".join(
        f"{column.key} {column.title}" for column in view.table.columns if column.key
    )
    return Text(
        f"sort: {sort_keys}   {REVERSE} turn  {HELP} help  {QUIT} quit", "dim", no_wrap=True
    )
