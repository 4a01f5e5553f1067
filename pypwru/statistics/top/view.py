"""Which of a summary's tables is shown, and in which order: what keys change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pypwru.statistics.tables import TABLES, Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.statistics.summary import Summary

QUIT, HELP, TURN = "q", "h", "v"


class View:
    """What is shown.

    The table is chosen by its number, and sorted by one of its columns: the largest first of
    numbers, and of words the first in the alphabet.
    """

    def __init__(self) -> None:
        self.table: Table = TABLES[0]
        self.shows_help = False
        self._order: dict[str, tuple[Column, bool]] = {}  # by table; whether it is turned round

    def press(self, key: str) -> bool:
        """Do what a key means, which may be nothing; false when the end is wanted."""
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
        """The column by which the table is sorted, and whether it is turned round."""
        return self._order.get(self.table.title, (self.table.columns[0], False))

    def rows(self, summary: Summary) -> Sequence[Any]:
        """The table's, in their order."""
        column, is_turned = self.order
        rows = self.table.rows(summary)
        return sorted(rows, key=column.value, reverse=column.is_number != is_turned)
