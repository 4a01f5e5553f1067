"""Tables of a summary, for the report and for --top: in TABLES, each column is a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.statistics.format import format_count, format_duration, format_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.statistics.summary import RuleCount, Summary


class TableColumn(NamedTuple):
    """A column of a table.

    Args:
        title: head of the column.
        value: returns the sort key of a row, which is also what is printed.
        text: formats the value; any other than ``str`` marks a number, which is right-aligned.
        key: the key that sorts --top by this column; "" for none.
    """

    title: str
    value: Callable[[Any], Any]
    text: Callable[[Any], str] = str
    key: str = ""

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.text is not str


class SummaryTable(NamedTuple):
    """A table.

    Args:
        title: head of the table.
        rows: returns the rows of a summary, in the order of the report.
        columns: numbers first, so that long names at the end need no padding.
    """

    title: str
    rows: Callable[[Summary], Sequence[Any]]
    columns: Sequence[TableColumn]


def _verdict_source(row: RuleCount) -> str:
    """Return ``handle 12``, ``policy``, or ``-`` at the end of a chain."""
    rule = row.rule
    if rule.policy:
        return "policy"
    return f"handle {rule.handle}" if rule.handle else "-"


# fmt: off
# ruff: noqa: E501 -- tables: each column is a row
TABLES: tuple[SummaryTable, ...] = (
    SummaryTable("functions", lambda summary: summary.functions, (
        TableColumn("HITS", lambda row: row.hits, format_count, "c"),
        TableColumn("HITS/S", lambda row: row.rate, format_rate, "r"),
        TableColumn("FUNCTION", lambda row: row.function, key="n"),
    )),
    SummaryTable("drops", lambda summary: [row for row in summary.drops if row.drops], (
        TableColumn("DROPS", lambda row: row.drops, format_count, "c"),
        TableColumn("REASON", lambda row: row.drop.reason or "-", key="r"),
        TableColumn("LOCATION", lambda row: row.drop.location, key="n"),
    )),
    SummaryTable("nftables rules", lambda summary: summary.rules, (
        TableColumn("TIMES", lambda row: row.events, format_count, "c"),
        TableColumn("VERDICT", lambda row: row.rule.verdict, key="r"),
        TableColumn("CHAIN", lambda row: f"{row.rule.family} {row.rule.table} {row.rule.chain}", key="n"),
        TableColumn("SOURCE", _verdict_source),
        TableColumn("RULE", lambda row: row.rule.text or ""),
    )),
    SummaryTable("hops", lambda summary: summary.hops, (
        TableColumn("MAX", lambda row: row.max, format_duration, "m"),
        TableColumn("MEAN", lambda row: row.mean, format_duration, "t"),
        TableColumn("TIMES", lambda row: row.times, format_count, "c"),
        TableColumn("FROM -> TO", lambda row: f"{row.source} -> {row.target}", key="n"),
    )),
    SummaryTable("flows", lambda summary: summary.top_flows, (
        TableColumn("EVENTS", lambda row: row.events, format_count, "c"),
        TableColumn("PROTO", lambda row: row.protocol, key="r"),
        TableColumn("FLOW (INITIATOR FIRST)", lambda row: f"{row.first} {row.second}", key="n"),
    )),
    SummaryTable("cost", lambda summary: summary.cost or (), (
        TableColumn("NS/HIT", lambda row: row.mean, format_count, "t"),
        TableColumn("HITS", lambda row: row.hits, format_count, "c"),
        TableColumn("HANDLER", lambda row: row.handler, key="n"),
    )),
    SummaryTable("throttled functions", lambda summary: sorted(summary.throttled.items(), key=lambda item: -item[1]), (
        TableColumn("THROTTLED", lambda row: row[1], format_count, "c"),
        TableColumn("FUNCTION", lambda row: row[0], key="n"),
    )),
)
# fmt: on
