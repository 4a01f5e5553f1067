"""Lines of text, pwru's to the byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pypwru.output.columns import Column
from pypwru.output.printer import Form


class Text(Form):
    """A line an event, and what belongs to it below.

    Args:
        columns: of the run.
    """

    end = "\n"

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__([column for column in columns if column.text])
        self._longest: dict[str, int] = {}

    def header(self) -> str:
        """The titles."""
        return "".join(self._lead(one) + one.width % one.header for one in self.columns) + "\n"

    def template(self, column: Column) -> str:
        """Its width, and what stands before it."""
        return self._lead(column) + column.width

    def shown(self, column: Column) -> Callable[[Any], str]:
        """Its text."""
        assert column.text, "columns without text were left out"
        return column.text

    def piece(self, column: Column, value: Any) -> str:
        """The column, padded."""
        return self._lead(column) + self._padded(column, column.width % self.shown(column)(value))

    def _lead(self, column: Column) -> str:
        return column.lead if column is not self.columns[0] else ""

    def _padded(self, column: Column, text: str) -> str:
        if not column.grows:
            return text
        longest = self._longest.get(column.name, 0)
        if len(text) > longest:
            longest = self._longest[column.name] = len(text)
            self.grown += 1
        return text.ljust(longest)
