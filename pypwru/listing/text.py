"""A list as a table: words that awk(1) counts, and the signature, which has spaces, last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.escaping import escape_unprintable

if TYPE_CHECKING:
    from pypwru.listing.entry import Entry, Listing

_HEAD = ("NAME", "MODULE", "ARG", "CATEGORY", "PRIORITY", "ATTACH", "SIGNATURE")
_ATTACH = {True: "yes", False: "no", None: "?"}
_UNKNOWN, _NONE = "?", "-"


def table(listing: Listing) -> str:
    """A line each below a head; why something can't be attached stands behind ``#``."""
    rows = [_HEAD, *map(_row, listing.entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    comments = ["", *(entry.why and f"  # {entry.why}" for entry in listing.entries)]
    lines = []
    for row, comment in zip(rows, comments, strict=True):
        words = [f"{word:{width}}" for word, width in zip(row, widths, strict=False)]
        lines.append(f"{'  '.join((*words, row[-1]))}{comment}\n")
    return "".join(lines)


def _row(entry: Entry) -> tuple[str, ...]:
    none = _NONE if entry.signature else _UNKNOWN
    return (
        escape_unprintable(entry.name),
        escape_unprintable(entry.module) or _NONE,
        str(entry.position or none),
        entry.category,
        str(entry.priority),
        _ATTACH[entry.attachable],
        escape_unprintable(entry.signature) or _UNKNOWN,
    )


def plain(listing: Listing) -> str:
    """A name a line, of what can be attached to, as --functions reads it."""
    return "".join(f"{entry.display}\n" for entry in listing.attachable)
