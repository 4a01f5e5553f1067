"""List functions and tracepoints of a kernel without BTF, by name alone.

pypwru's tables name functions and tracepoints that take a packet on some kernel; those among the
running kernel's symbols are listed. Which of their arguments is the packet is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery import function_tables
from pypwru.discovery.selection import TRACEPOINT_PREFIX, Selection
from pypwru.listing.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pypwru.kernel.ftrace import TraceableFunctions

# Prefix of a function that every tracepoint has (since Linux 5.10, include/linux/tracepoint.h).
_TRACEITER_PREFIX = "__traceiter_"


def functions(
    symbols: Collection[str],
    modules: Collection[str] | None,
    traceable: TraceableFunctions | None,
    selection: Selection,
) -> Iterator[Entry]:
    """Yield the selected functions of the tables that this kernel has.

    Args:
        symbols: display names of the kernel's functions.
        modules: modules to list, beside vmlinux; None for all.
        traceable: functions to which ftrace can attach; None if unknown.
        selection: the user's criteria.
    """
    priorities = function_tables.priorities("priorities")
    for display in symbols:
        name, _, rest = display.partition("[")
        module = rest.removesuffix("]")
        if name not in priorities or not selection.name_matches(name):
            continue
        if selection.only is None:
            is_selected = not module or modules is None or module in modules
        else:
            is_selected = not selection.only.isdisjoint((display, name))
        category = function_tables.category(name, module)
        if is_selected and selection.matches_level(category, priorities[name]):
            is_untraceable = traceable is not None and (name, module) not in traceable
            attachability = (False, "ftrace can't hook it") if is_untraceable else (None, "")
            yield Entry(name, module, None, category, priorities[name], "", *attachability)


def tracepoints(symbols: Collection[str], selection: Selection) -> Iterator[Entry]:
    """Yield the selected raw tracepoints of the tables that this kernel has.

    Args:
        symbols: display names of the kernel's functions.
        selection: the user's criteria.
    """
    for name, priority in function_tables.priorities("tracepoints").items():
        category, display = function_tables.category(name), TRACEPOINT_PREFIX + name
        is_selected = selection.name_matches(name) and selection.is_listed(display)
        if (
            is_selected
            and selection.matches_level(category, priority)
            and _TRACEITER_PREFIX + name in symbols
        ):
            yield Entry(display, "", None, category, priority, "", None)


def missing(names: Collection[str], entries: Collection[Entry]) -> list[str]:
    """Return the ``names``, with or without a module, for which there is no entry."""
    found = {name for entry in entries for name in (entry.display, entry.name)}
    return sorted(set(names) - found)
