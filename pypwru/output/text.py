"""Lines of text, byte for byte as pwru prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pypwru.escaping import escape_unprintable
from pypwru.output.printer import Form

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pypwru.output.columns import Column


class Text(Form):
    """The form with one line per event; stacks and dumps follow it on further lines.

    Args:
        columns: of the run.
    """

    end = "\n"
    escape = staticmethod(escape_unprintable)

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__([column for column in columns if column.text])
        self._longest: dict[str, int] = {}

    def header(self) -> str:
        """Return the line of column titles."""
        return "".join(self._lead(one) + one.width % one.header for one in self.columns) + "\n"

    def writer(self, column: Column) -> Callable[[Any], str]:
        """Return the function that formats a value of ``column``, padded to its width."""
        template, text = self._lead(column) + column.width, column.text
        assert text, "__init__ leaves out columns without text"
        if column.grows:
            return lambda value: self._padded(column.name, template % text(value))
        if text is str:
            return template.__mod__
        return lambda value: template % text(value)

    def _lead(self, column: Column) -> str:
        return column.lead if column is not self.columns[0] else ""

    def _padded(self, name: str, text: str) -> str:
        longest = self._longest.get(name, 0)
        if len(text) > longest:
            longest = self._longest[name] = len(text)
            self.grown += 1
        return text.ljust(longest)
