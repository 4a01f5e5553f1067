"""Where a word of an expression stands, so that an error can point at it."""

from __future__ import annotations

from typing import NamedTuple

from pypwru.errors import FilterError


class Mark(NamedTuple):
    """A place in an expression.

    Args:
        text: the whole expression, as typed.
        flag: the option that it was typed for, such as ``--filter-skb-expr``.
        column: 1 the first.
    """

    text: str
    flag: str
    column: int = 1

    def error(self, problem: str) -> FilterError:
        """The error, on one line: option, expression, column and ``problem``."""
        where = f"{self.flag} '{self.text}': column {self.column}"
        return FilterError(shown(f"{where}: {problem}"))


def shown(text: str) -> str:
    """``text`` on one line: what can't be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
