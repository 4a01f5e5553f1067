"""The tables of a summary: one row a column, which the report and the live table read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.statistics.figures import duration, grouped, rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.statistics.summary import Spoken, Summary


class Column(NamedTuple):
    """A column.

    Args:
        title: what stands above.
        value: of a row; what it is sorted by.
        text: of that value; it stands on the right if it is a number's.
        key: the key by which the live table is sorted by it.
    """

    title: str
    value: Callable[[Any], Any]
    text: Callable[[Any], str] = str
    key: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it is one."""
        return self.text is not str


class Table(NamedTuple):
    """A table.

    Args:
        title: what it is about.
        rows: of a summary, in their order.
        columns: in theirs; numbers first, so that long names need no room.
    """

    title: str
    rows: Callable[[Summary], Sequence[Any]]
    columns: Sequence[Column]


def _speaker(spoken: Spoken) -> str:
    """``handle 12``, ``policy``, or nothing at the end of a chain."""
    rule = spoken.rule
    if rule.policy:
        return "policy"
    return f"handle {rule.handle}" if rule.handle else "-"


# fmt: off
# ruff: noqa: E501 -- tables: one row a column
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
