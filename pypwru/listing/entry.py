"""A list of functions or tracepoints as data, and what it comes to."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import tables
from pypwru.discovery.selection import is_tracepoint
from pypwru.kernel.kallsyms import display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from pypwru.config import Backend


class Entry(NamedTuple):
    """What would be traced, or can't be.

    Args:
        name: of the function; ``tp:name`` of a raw tracepoint.
        module: '' for vmlinux.
        position: of the packet among its arguments, 1 the first, as a register counts; None where
            it has none, or nothing tells.
        category: one of tables.categories().
        priority: 0 to 3.
        signature: in C; '' where nothing tells.
        attachable: whether it can be attached to; None where the kernel can't be asked.
        why: why not; '' where it can, or nothing tells.
    """

    name: str
    module: str
    position: int | None
    category: str
    priority: int
    signature: str
    attachable: bool | None
    why: str = ""

    @property
    def display(self) -> str:
        """As it is printed when it is traced, and named in a list."""
        return self.name if is_tracepoint(self.name) else display_name(self.name, self.module)


class Listing(NamedTuple):
    """What is listed, by priority, category and name.

    Args:
        entries: at least one.
        backend: that they were looked at for; None where nothing tells which it would be.
        kernel: its release; '' where only its types are there.
        note: what is not known of all of them, and the cure; '' for nothing.
    """

    entries: tuple[Entry, ...]
    backend: Backend | None
    kernel: str
    note: str = ""

    @property
    def attachable(self) -> tuple[Entry, ...]:
        """Those that can be attached to, or of which nobody knows."""
        return tuple(entry for entry in self.entries if entry.attachable is not False)


def ordered(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """By priority, category and name; of one display one, which can be attached if any can."""
    found: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.attachable is False):
        found.setdefault(entry.display, entry)
    return tuple(sorted(found.values(), key=attrgetter("priority", "category", "display")))


def names_by_priority(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Level -> displays; every level is there."""
    levels = map(str, range(tables.EVERYTHING + 1))
    return _names(entries, levels, lambda entry: str(entry.priority))


def names_by_category(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Category -> displays; every category is there."""
    return _names(entries, tables.categories(), attrgetter("category"))


def _names(
    entries: Iterable[Entry], keys: Iterable[str], key_of: Callable[[Entry], str]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {key: [] for key in keys}
    for entry in entries:
        found[key_of(entry)].append(entry.display)
    return found


def document(listing: Listing, now: datetime) -> dict[str, object]:
    """The JSON document of --list-functions --output-json.

    Args:
        now: with its time zone.
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
        "functions": [_object(entry) for entry in listing.entries],
    }


def _object(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "param_position": entry.position,
        "category": entry.category,
        "priority": entry.priority,
        "signature": entry.signature or None,
        "module": entry.module or None,
        "attachable": entry.attachable,
        "why": entry.why or None,
    }
