"""Tables of a summary, for the report and for --top: in TABLES, each column is a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.statistics.figures import duration, grouped, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.statistics.summary import Spoken, Summary


class Column(NamedTuple):
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


class Table(NamedTuple):
    """A table.

    Args:
        title: head of the table.
        rows: returns the rows of a summary, in the order of the report.
        columns: numbers first, so that long names at the end need no padding.
    """

    title: str
    rows: Callable[[Summary], Sequence[Any]]
    columns: Sequence[Column]


def _speaker(spoken: Spoken) -> str:
    """Return ``handle 12``, ``policy``, or ``-`` at the end of a chain."""
    rule = spoken.rule
    if rule.policy:
        return "policy"
    return f"handle {rule.handle}" if rule.handle else "-"


# fmt: off
# ruff: noqa: E501 -- tables: each column is a row
TABLES: tuple[Table, ...] = (
    Table("functions", lambda summary: summary.functions, (
        Column("HITS", lambda row: row.hits, grouped, "c"),
        Column("HITS/S", lambda row: row.rate, rate, "r"),
        Column("FUNCTION", lambda row: row.function, key="n"),
    )),
    Table("drops", lambda summary: [row for row in summary.drops if row.drops], (
        Column("DROPS", lambda row: row.drops, grouped, "c"),
        Column("REASON", lambda row: row.drop.reason or "-", key="r"),
        Column("LOCATION", lambda row: row.drop.location, key="n"),
    )),
    Table("nftables rules", lambda summary: summary.rules, (
        Column("TIMES", lambda row: row.events, grouped, "c"),
        Column("VERDICT", lambda row: row.rule.verdict, key="r"),
        Column("CHAIN", lambda row: f"{row.rule.family} {row.rule.table} {row.rule.chain}", key="n"),
        Column("SPEAKER", _speaker),
        Column("RULE", lambda row: row.rule.text or ""),
    )),
    Table("hops", lambda summary: summary.hops, (
        Column("MAX", lambda row: row.max, duration, "m"),
        Column("MEAN", lambda row: row.mean, duration, "t"),
        Column("TIMES", lambda row: row.times, grouped, "c"),
        Column("FROM -> TO", lambda row: f"{row.source} -> {row.target}", key="n"),
    )),
    Table("flows", lambda summary: summary.busiest, (
        Column("EVENTS", lambda row: row.events, grouped, "c"),
        Column("PROTO", lambda row: row.protocol, key="r"),
        Column("ENDS, THE FIRST SENDER FIRST", lambda row: f"{row.first} {row.second}", key="n"),
    )),
    Table("cost", lambda summary: summary.cost or (), (
        Column("NS/HIT", lambda row: row.mean, grouped, "t"),
        Column("HITS", lambda row: row.hits, grouped, "c"),
        Column("HANDLER", lambda row: row.handler, key="n"),
    )),
    Table("throttled functions", lambda summary: sorted(summary.throttled.items(), key=lambda item: -item[1]), (
        Column("LEFT OUT", lambda row: row[1], grouped, "c"),
        Column("FUNCTION", lambda row: row[0], key="n"),
    )),
)
# fmt: on
