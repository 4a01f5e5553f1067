"""The tables of pypwru/data: which level and which category a name has.

Every row carries why it is there; the program reads past that.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

OTHER = "other"
EVERYTHING = 3
"""The level of what no table lists, and the highest."""


class Row(NamedTuple):
    """One line of a table.

    Args:
        key: level, category, or what the table is keyed by.
        words: names or patterns, none of them empty.
        why: for readers.
    """

    key: str
    words: tuple[str, ...]
    why: str


def parse_rows(text: str) -> list[Row]:
    """The rows of a table: ``key | words | why``, ``#`` for comments.

    Raises:
        ValueError: a row without a word or a why.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|", 2)]
        if len(parts) < 3 or not all(parts):
            raise ValueError(f"line {number} is not `key | words | why`: {line!r}")
        rows.append(Row(parts[0], tuple(parts[1].split()), parts[2]))
    return rows


@cache
def rows(table: str) -> tuple[Row, ...]:
    """The rows of ``pypwru/data/TABLE.txt``."""
    from importlib import resources

    file = resources.files("pypwru.data").joinpath(f"{table}.txt")
    return tuple(parse_rows(file.read_text(encoding="utf-8")))


@cache
def levels(table: str) -> dict[str, int]:
    """Name -> level of what ``priorities`` (functions) or ``tracepoints`` lists."""
    return {
        name: int(row.key) for row in rows(table) for word in row.words for name in word.split("/")
    }


def function_priority(name: str) -> int:
    """0 to 3: how early function ``name`` is worth tracing."""
    return levels("priorities").get(name, EVERYTHING)


def tracepoint_priority(name: str) -> int:
    """0 to 3: how early raw tracepoint ``name`` is worth tracing."""
    return levels("tracepoints").get(name, EVERYTHING)


@cache
def categories() -> tuple[str, ...]:
    """Every category, in the order of the table, ``other`` last."""
    named = dict.fromkeys(row.key for row in rows("categories") if row.key != "strip")
    return (*named, OTHER)


class _Rules(NamedTuple):
    strip: re.Pattern[str]
    match: re.Pattern[str]
    rows: tuple[Row, ...]


def _expression(pattern: str) -> str:
    whole = pattern if "@" in pattern else f"{pattern}@*"
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in whole)


@cache
def _rules() -> _Rules:
    """All patterns as one expression: the regular expression engine walks them, in order."""
    prefixes = [word for row in rows("categories") if row.key == "strip" for word in row.words]
    families = [row for row in rows("categories") if row.key != "strip"]
    groups = (f"({'|'.join(map(_expression, row.words))})" for row in families)
    return _Rules(
        re.compile(f"_*(?:{'|'.join(map(re.escape, prefixes))})?"),
        re.compile(f"(?:{'|'.join(groups)})$"),
        tuple(families),
    )


def deciding_row(name: str, module: str = "") -> Row | None:
    """The row of categories.txt that ``name`` of ``module`` falls under; None for ``other``."""
    rules = _rules()
    prefix = rules.strip.match(name)
    bare = name[prefix.end() if prefix else 0 :]
    found = rules.match.match(f"{bare}@{module}")
    return rules.rows[found.lastindex - 1] if found and found.lastindex else None


def category(name: str, module: str = "") -> str:
    """The category of function or tracepoint ``name`` of ``module`` ('' for vmlinux)."""
    row = deciding_row(name, module)
    return row.key if row else OTHER
