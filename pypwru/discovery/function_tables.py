"""Read the tables of pypwru/data: priority and category of functions and tracepoints.

Every row states the reason for it; the program ignores that column.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

OTHER = "other"
MAX_PRIORITY = 3
"""The largest priority number, which is that of names in no table."""


class Row(NamedTuple):
    """One line of a table.

    Args:
        key: priority, category, or whatever the table is keyed by.
        names: names or patterns, at least one.
        why: the reason for the row, for readers of the table.
    """

    key: str
    names: tuple[str, ...]
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
def load_table(table: str) -> tuple[Row, ...]:
    """Return the rows of ``pypwru/data/TABLE.txt``."""
    from importlib import resources

    file = resources.files("pypwru.data").joinpath(f"{table}.txt")
    return tuple(parse_rows(file.read_text(encoding="utf-8")))


@cache
def priorities(table: str) -> dict[str, int]:
    """Return name -> priority, of the table ``priorities`` (functions) or ``tracepoints``."""
    return {
        name: int(row.key)
        for row in load_table(table)
        for aliases in row.names
        for name in aliases.split("/")
    }


def function_priority(name: str) -> int:
    """Return the priority of a function: 0 (worth tracing first) to 3."""
    return priorities("priorities").get(name, MAX_PRIORITY)


def tracepoint_priority(name: str) -> int:
    """Return the priority of a raw tracepoint: 0 (worth tracing first) to 3."""
    return priorities("tracepoints").get(name, MAX_PRIORITY)


@cache
def categories() -> tuple[str, ...]:
    """Return all categories in the order of the table, ``other`` last."""
    named = dict.fromkeys(row.key for row in load_table("categories") if row.key != "strip")
    return (*named, OTHER)


class _CategoryPatterns(NamedTuple):
    strip: re.Pattern[str]
    match: re.Pattern[str]
    rows: tuple[Row, ...]


def _to_regexp(pattern: str) -> str:
    whole = pattern if "@" in pattern else f"{pattern}@*"
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in whole)


@cache
def _category_patterns() -> _CategoryPatterns:
    """Compile all patterns into one expression; the first alternative that matches is the row."""
    prefixes = [
        prefix for row in load_table("categories") if row.key == "strip" for prefix in row.names
    ]
    families = [row for row in load_table("categories") if row.key != "strip"]
    groups = (f"({'|'.join(map(_to_regexp, row.names))})" for row in families)
    return _CategoryPatterns(
        re.compile(f"_*(?:{'|'.join(map(re.escape, prefixes))})?"),
        re.compile(f"(?:{'|'.join(groups)})$"),
        tuple(families),
    )


def matching_row(name: str, module: str = "") -> Row | None:
    """Return the first row of categories.txt that matches ``name@module``; None for ``other``."""
    patterns = _category_patterns()
    prefix = patterns.strip.match(name)
    bare = name[prefix.end() if prefix else 0 :]
    found = patterns.match.match(f"{bare}@{module}")
    return patterns.rows[found.lastindex - 1] if found and found.lastindex else None


def category(name: str, module: str = "") -> str:
    """Return the category of a function or tracepoint; ``module`` is '' for vmlinux."""
    row = matching_row(name, module)
    return row.key if row else OTHER
