"""What would be traced on a kernel whose types nobody has: by name alone.

pypwru's own tables name functions and tracepoints that carry a packet on some kernel; those that
are among this kernel's symbols are listed. In which argument they have it nobody can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery import tables
from pypwru.discovery.selection import TRACEPOINT, Selection
from pypwru.listing.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pypwru.kernel.ftrace import Traceable

# A function of every tracepoint since Linux 5.10 (include/linux/tracepoint.h).
_ITERATES = "__traceiter_"


def functions(
    symbols: Collection[str],
    modules: Collection[str] | None,
    traceable: Traceable | None,
    selection: Selection,
) -> Iterator[Entry]:
    """Those of the tables that this kernel has.

    Args:
        symbols: displays of its functions.
        modules: whose functions are wanted, beside vmlinux; None for all.
        traceable: what ftrace can hook; None where that is unknown.
        selection: what was asked for.
    """
    levels = tables.levels("priorities")
    for display in symbols:
        name, _, rest = display.partition("[")
        module = rest.removesuffix("]")
        if name not in levels or not selection.named(name):
            continue
        if selection.only is None:
            wanted = not module or modules is None or module in modules
        else:
            wanted = not selection.only.isdisjoint((display, name))
        category = tables.category(name, module)
        if wanted and selection.wants(category, levels[name]):
            refused = traceable is not None and (name, module) not in traceable
            verdict = (False, "ftrace can't hook it") if refused else (None, "")
            yield Entry(name, module, None, category, levels[name], "", *verdict)


def tracepoints(symbols: Collection[str], selection: Selection) -> Iterator[Entry]:
    """The same of raw tracepoints.

    Args:
        symbols: displays of this kernel's functions.
        selection: what was asked for.
    """
    for name, level in tables.levels("tracepoints").items():
        category, display = tables.category(name), TRACEPOINT + name
        wanted = selection.named(name) and selection.lists(display)
        if wanted and selection.wants(category, level) and _ITERATES + name in symbols:
            yield Entry(display, "", None, category, level, "", None)


def missing(names: Collection[str], entries: Collection[Entry]) -> list[str]:
    """Those of ``names`` that no entry is of, with its module or without."""
    found = {name for entry in entries for name in (entry.display, entry.name)}
    return sorted(set(names) - found)
