"""Positions in an expression's text, for error messages."""

from __future__ import annotations

from typing import NamedTuple

from pypwru.errors import FilterError


class Position(NamedTuple):
    """A position in an expression.

    Args:
        text: the whole expression, as typed.
        flag: the option that it was given to, such as ``--filter-skb-expr``.
        column: in characters, from 1.
    """

    text: str
    flag: str
    column: int = 1

    def error(self, problem: str) -> FilterError:
        """Return an error of one line: option, expression, column and ``problem``."""
        location = f"{self.flag} '{self.text}': column {self.column}"
        return FilterError(printable(f"{location}: {problem}"))


def printable(text: str) -> str:
    """Return ``text`` on one line, with unprintable characters escaped as in Python."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
