"""Read the tables of pypwru/data: priority and category of functions and tracepoints.

Every row states the reason for it; the program ignores that column.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

OTHER = "other"
EVERYTHING = 3
"""The largest priority number, which is that of names in no table."""


class Row(NamedTuple):
    """One line of a table.

    Args:
        key: priority, category, or whatever the table is keyed by.
        words: names or patterns, at least one.
        why: the reason for the row, for readers of the table.
    """

    key: str
    words: tuple[str, ...]
    why: str


def parse_rows(text: str) -> list[Row]:
    """Return the rows of a table: ``key | words | why``, ``#`` starts a comment line.

    Raises:
        ValueError: a row with an empty column.
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
    """Return the rows of ``pypwru/data/TABLE.txt``."""
    from importlib import resources

    file = resources.files("pypwru.data").joinpath(f"{table}.txt")
    return tuple(parse_rows(file.read_text(encoding="utf-8")))


@cache
def levels(table: str) -> dict[str, int]:
    """Return name -> priority, of the table ``priorities`` (functions) or ``tracepoints``."""
    return {
        name: int(row.key) for row in rows(table) for word in row.words for name in word.split("/")
    }


def function_priority(name: str) -> int:
    """Return the priority of a function: 0 (worth tracing first) to 3."""
    return levels("priorities").get(name, EVERYTHING)


def tracepoint_priority(name: str) -> int:
    """Return the priority of a raw tracepoint: 0 (worth tracing first) to 3."""
    return levels("tracepoints").get(name, EVERYTHING)


@cache
def categories() -> tuple[str, ...]:
    """Return all categories in the order of the table, ``other`` last."""
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
    """Compile all patterns into one expression; the first alternative that matches is the row."""
    prefixes = [word for row in rows("categories") if row.key == "strip" for word in row.words]
    families = [row for row in rows("categories") if row.key != "strip"]
    groups = (f"({'|'.join(map(_expression, row.words))})" for row in families)
    return _Rules(
        re.compile(f"_*(?:{'|'.join(map(re.escape, prefixes))})?"),
        re.compile(f"(?:{'|'.join(groups)})$"),
        tuple(families),
    )


def deciding_row(name: str, module: str = "") -> Row | None:
    """Return the first row of categories.txt that matches ``name@module``; None for ``other``."""
    rules = _rules()
    prefix = rules.strip.match(name)
    bare = name[prefix.end() if prefix else 0 :]
    found = rules.match.match(f"{bare}@{module}")
    return rules.rows[found.lastindex - 1] if found and found.lastindex else None


def category(name: str, module: str = "") -> str:
    """Return the category of a function or tracepoint; ``module`` is '' for vmlinux."""
    row = deciding_row(name, module)
    return row.key if row else OTHER
