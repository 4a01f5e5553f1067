"""State of the live table that keys change: which table is visible, and its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pypwru.statistics.tables import TABLES, SummaryTable, TableColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.statistics.summary import Summary

QUIT, HELP, REVERSE = "q", "h", "v"


class TableView:
    """Visible table, its order, and whether help is visible instead.

    A key selects the table by number. It is sorted by one of its columns: numbers descending, names
    ascending, unless reversed.
    """

    def __init__(self) -> None:
        self.table: SummaryTable = TABLES[0]
        self.shows_help = False
        self._order: dict[
            str, tuple[TableColumn, bool]
        ] = {}  # title of a table -> column, is reversed

    def handle_key(self, key: str) -> bool:
        """Handle a key; unknown keys do nothing. Return False if it quits."""
        if key == HELP:
            self.shows_help = not self.shows_help
        elif key == REVERSE:
            column, is_reversed = self.order
            self._order[self.table.title] = column, not is_reversed
        elif key.isascii() and key.isdigit() and 0 < int(key) <= len(TABLES):
            self.table = TABLES[int(key) - 1]
        else:
            for column in self.table.columns:
                if key == column.key:
                    self._order[self.table.title] = column, False
        return key != QUIT

    @property
    def order(self) -> tuple[TableColumn, bool]:
        """Column by which the table is sorted, and whether the order is reversed."""
        return self._order.get(self.table.title, (self.table.columns[0], False))

    def rows(self, summary: Summary) -> Sequence[Any]:
        """Return the rows of the visible table, sorted."""
        column, is_reversed = self.order
        rows = self.table.rows(summary)
        return sorted(rows, key=column.value, reverse=column.is_number != is_reversed)
