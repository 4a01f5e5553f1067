"""Print a list as a table for awk(1): columns without spaces, except the last, the signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.escaping import escape_unprintable

if TYPE_CHECKING:
    from pypwru.listing.entry import Entry, Listing

_HEADER = ("NAME", "MODULE", "ARG", "CATEGORY", "PRIORITY", "ATTACH", "SIGNATURE")
_ATTACH = {True: "yes", False: "no", None: "?"}
_UNKNOWN, _NONE = "?", "-"


def table(listing: Listing) -> str:
    """Return a table with one line per entry; after ``#`` the reason why it can't be attached."""
    rows = [_HEADER, *map(_row, listing.entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    comments = ["", *(entry.reason and f"  # {entry.reason}" for entry in listing.entries)]
    lines = []
    for row, comment in zip(rows, comments, strict=True):
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        lines.append(f"{'  '.join((*cells, row[-1]))}{comment}\n")
    return "".join(lines)


def _row(entry: Entry) -> tuple[str, ...]:
    placeholder = _NONE if entry.signature else _UNKNOWN
    return (
        escape_unprintable(entry.name),
        escape_unprintable(entry.module) or _NONE,
        str(entry.skb_arg or placeholder),
        entry.category,
        str(entry.priority),
        _ATTACH[entry.attachable],
        escape_unprintable(entry.signature) or _UNKNOWN,
    )


def names_only(listing: Listing) -> str:
    """Return the names of the attachable entries, one per line, as --functions reads them."""
    return "".join(f"{entry.display}\n" for entry in listing.attachable)
