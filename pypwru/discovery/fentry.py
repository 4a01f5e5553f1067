"""Which functions fentry can be had on: those that the kernel finds by their type alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pypwru.btf.query import BTF
from pypwru.btf.types import Kind
from pypwru.discovery.functions import Function
from pypwru.kernel.kallsyms import Symbols, display_name

TypeIds = Mapping[str, int]


def type_ids(
    functions: Iterable[Function], types: Mapping[str, BTF], symbols: Symbols
) -> dict[str, int]:
    """Display -> type id of the functions whose name is one function's.

    The kernel takes a type id, looks the type's name up among its symbols, and attaches to the
    first; before Linux 6.3 to one of vmlinux even where a module's is meant (31bf1dbccfb0).

    Args:
        types: module, '' for vmlinux -> its BTF.
        symbols: of the running kernel.
    """
    wanted = list(functions)
    cores = {display_name(one.name) for one in wanted if one.module}
    found = symbols.select({one.display for one in wanted} | cores)
    ids = {}
    for one in wanted:
        places = len(found.get(one.display, ())) + bool(one.module) * len(found.get(one.name, ()))
        btf = types[one.module]
        own = [number for number in btf.find(one.name, Kind.FUNC) if number in btf.ids()]
        if places == 1 and len(own) == 1:
            ids[one.display] = own[0]
    return ids
