"""A list of functions or tracepoints as data, and its JSON document."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import function_tables
from pypwru.discovery.selection import is_tracepoint
from pypwru.kernel.kallsyms import display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from pypwru.config import Backend


class Entry(NamedTuple):
    """A function or raw tracepoint of the list.

    Args:
        name: of the function; ``tp:name`` of a raw tracepoint.
        module: '' for vmlinux.
        skb_arg: of the packet among its arguments, from 1; None if it takes none, or unknown.
        category: one of function_tables.categories().
        priority: 0 to 3.
        signature: C declaration; '' if unknown.
        attachable: whether it can be attached to; None if unknown.
        reason: reason for which it can't be attached to; else ''.
    """

    name: str
    module: str
    skb_arg: int | None
    category: str
    priority: int
    signature: str
    attachable: bool | None
    reason: str = ""

    @property
    def display(self) -> str:
        """The name in events and in lists of functions."""
        return self.name if is_tracepoint(self.name) else display_name(self.name, self.module)


class Listing(NamedTuple):
    """The list, ordered by priority, category and name.

    Args:
        entries: at least one.
        backend: for which ``attachable`` holds; None if unknown.
        kernel: its release; '' if only its BTF is available.
        note: what is unknown about the entries, and the remedy; '' for nothing.
    """

    entries: tuple[Entry, ...]
    backend: Backend | None
    kernel: str
    note: str = ""

    @property
    def attachable(self) -> tuple[Entry, ...]:
        """The entries that can be attached to, or for which that is unknown."""
        return tuple(entry for entry in self.entries if entry.attachable is not False)


def sort_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries ordered by priority, category and name, one per display name.

    Of several with the same display name, one that is not known to be unattachable is taken.
    """
    found: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.attachable is False):
        found.setdefault(entry.display, entry)
    return tuple(sorted(found.values(), key=attrgetter("priority", "category", "display")))


def names_by_priority(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Return a dict of every priority -> display names."""
    priorities = map(str, range(function_tables.MAX_PRIORITY + 1))
    return _group_names(entries, priorities, lambda entry: str(entry.priority))


def names_by_category(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Return a dict of every category -> display names."""
    return _group_names(entries, function_tables.categories(), attrgetter("category"))


def _group_names(
    entries: Iterable[Entry], keys: Iterable[str], key_of: Callable[[Entry], str]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {key: [] for key in keys}
    for entry in entries:
        found[key_of(entry)].append(entry.display)
    return found


def json_document(listing: Listing, now: datetime) -> dict[str, object]:
    """Return the JSON document of --list-functions --output-json.

    Args:
        listing: the list.
        now: the time of the document, with a time zone.
    """
    return {
        "metadata": {
            "total": len(listing.entries),
            "timestamp": now.isoformat(timespec="seconds"),
            "kernel": listing.kernel or None,
            "backend": listing.backend.value if listing.backend else None,
            "note": listing.note or None,
        },
        "statistics": {
            "by_priority": names_by_priority(listing.entries),
            "by_category": names_by_category(listing.entries),
        },
        "functions": [_json_entry(entry) for entry in listing.entries],
    }


def _json_entry(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "param_position": entry.skb_arg,
        "category": entry.category,
        "priority": entry.priority,
        "signature": entry.signature or None,
        "module": entry.module or None,
        "attachable": entry.attachable,
        "why": entry.reason or None,
    }
