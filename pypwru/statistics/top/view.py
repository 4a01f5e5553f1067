"""State of the live table that keys change: which table is visible, and its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pypwru.statistics.tables import TABLES, Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.statistics.summary import Summary

QUIT, HELP, TURN = "q", "h", "v"


class View:
    """Visible table, its order, and whether help is visible instead.

    A key selects the table by number. It is sorted by one of its columns: numbers descending, names
    ascending, unless reversed.
    """

    def __init__(self) -> None:
        self.table: Table = TABLES[0]
        self.shows_help = False
        self._order: dict[str, tuple[Column, bool]] = {}  # title of a table -> column, is reversed

    def press(self, key: str) -> bool:
        """Handle a key; unknown keys do nothing. Return False if it quits."""
        if key == HELP:
            self.shows_help = not self.shows_help
        elif key == TURN:
            column, is_turned = self.order
            self._order[self.table.title] = column, not is_turned
        elif key.isascii() and key.isdigit() and 0 < int(key) <= len(TABLES):
            self.table = TABLES[int(key) - 1]
        else:
            for column in self.table.columns:
                if key == column.key:
                    self._order[self.table.title] = column, False
        return key != QUIT

    @property
    def order(self) -> tuple[Column, bool]:
        """Column by which the table is sorted, and whether the order is reversed."""
        return self._order.get(self.table.title, (self.table.columns[0], False))

    def rows(self, summary: Summary) -> Sequence[Any]:
        """Return the rows of the visible table, sorted."""
        column, is_turned = self.order
        rows = self.table.rows(summary)
        return sorted(rows, key=column.value, reverse=column.is_number != is_turned)
