"""Lines of text, byte for byte as pwru prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pypwru.escaping import escape_unprintable
from pypwru.output.printer import Formatter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.output.columns import Column


class TextFormatter(Formatter):
    """The form with one line per event; stacks and dumps follow it on further lines.

    Args:
        columns: of the run.
    """

    terminator = "\n"
    escape = staticmethod(escape_unprintable)

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__([column for column in columns if column.text])
        self._widths: dict[str, int] = {}

    def header(self) -> str:
        """Return the line of column titles."""
        return (
            "".join(
                self._separator(column) + column.width % column.header for column in self.columns
            )
            + "\n"
        )

    def column_writer(self, column: Column) -> Callable[[Any], str]:
        """Return the function that formats a value of ``column``, padded to its width."""
        template, text = self._separator(column) + column.width, column.text
        assert text, "__init__ leaves out columns without text"
        if column.has_growing_width:
            return lambda value: self._pad(column.name, template % text(value))
        if text is str:
            return template.__mod__
        return lambda value: template % text(value)

    def _separator(self, column: Column) -> str:
        return column.separator if column is not self.columns[0] else ""

    def _pad(self, name: str, text: str) -> str:
        width = self._widths.get(name, 0)
        if len(text) > width:
            width = self._widths[name] = len(text)
            self.width_changes += 1
        return text.ljust(width)
