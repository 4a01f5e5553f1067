"""Resolve the names of --functions to modules, and explain why some are not traced."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.types import Kind
from pypwru.discovery import prototypes
from pypwru.discovery.names import NameList, module_of
from pypwru.discovery.selection import TRACEPOINT, is_tracepoint
from pypwru.errors import BTFError
from pypwru.kernel.kallsyms import display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pypwru.btf.query import BTF

_ANY = 32  # arguments to search: an sk_buff in one that can't be read has an error of its own


class Located(NamedTuple):
    """The resolved names of --functions.

    Args:
        modules: module name -> its BTF, of those of --kmods and those that the names need.
        displays: ``name``, ``name[module]`` or ``tp:name`` of each.
    """

    modules: dict[str, BTF]
    displays: frozenset[str]


def locate(
    names: NameList,
    btf: BTF,
    modules: Mapping[str, BTF],
    load: Callable[[str], BTF],
    loaded: Iterable[str],
) -> Located:
    """Resolve the names of --functions to modules.

    Args:
        names: of read_names().
        btf: of vmlinux.
        modules: module name -> its BTF, of --kmods.
        load: returns the BTF of a module, or raises BTFError.
        loaded: names of modules to search for a name without module that isn't in vmlinux.

    Raises:
        BTFError: the types of a loaded module can't be read.
    """
    found = dict(modules)
    for module in sorted({module_of(name) for name in names} - {"", *found}):
        with suppress(BTFError):  # its names are reported as missing
            found[module] = load(module)
    displays = {display_name(name.partition("[")[0], module_of(name)) for name in names}
    homeless = {name for name in displays if not module_of(name)} - carrying(btf)
    for module in dict.fromkeys([*found, *loaded]) if homeless else ():
        types = found[module] if module in found else load(module)
        here = carrying(types) & homeless
        if here:
            found[module] = types
        moved = {name for name in here if not is_tracepoint(name)}
        displays = displays - moved | {display_name(name, module) for name in moved}
    return Located(found, frozenset(displays))


def carrying(btf: BTF, module: str = "") -> set[str]:
    """Return the display names of functions and tracepoints in a BTF that take an sk_buff."""
    functions = {
        display_name(name, module)
        for name, _, _ in btf.functions_taking(prototypes.PACKET, max_args=_ANY)
    }
    return functions | {
        TRACEPOINT + name
        for name, proto_id in btf.tracepoints()
        if prototypes.place_of_packet(btf, proto_id) is not None
    }


class Sought(NamedTuple):
    """Where the names of --functions were searched.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF.
        by_tracepoints: True with the tracepoint backend, which traces no functions.
    """

    btf: BTF
    modules: Mapping[str, BTF]
    by_tracepoints: bool


def why_missing(names: Iterable[str], sought: Sought) -> dict[str, list[str]]:
    """Return reason -> the names that are not traced for that reason.

    Args:
        names: display names in --functions that are neither traced nor refused by the kernel.
        sought: where they were searched.
    """
    known = set[str]().union(
        *(carrying(types, module) for module, types in {"": sought.btf, **sought.modules}.items())
    )
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(_why(name, name in known, sought), []).append(name)
    return found


def _why(name: str, known: bool, sought: Sought) -> str:
    module = module_of(name)
    if known and is_tracepoint(name) is not sought.by_tracepoints:
        return _OTHER_BACKEND[is_tracepoint(name)]
    if known:
        return "excluded by --filter-func, --priority or --category"
    if is_tracepoint(name):
        return "this kernel has no such tracepoint with an sk_buff argument"
    if module and module not in sought.modules:
        return f"no BTF of module {module}: it isn't loaded, or this kernel has no BTF of modules"
    types = sought.modules.get(module, sought.btf)
    if types.find(name.partition("[")[0], Kind.FUNC):
        return "it takes no sk_buff: trace it with --filter-non-skb-funcs"
    return "it is not in this kernel's BTF"


_OTHER_BACKEND = {
    True: "a tracepoint, which --backend tracepoint traces",
    False: "a function, and --backend tracepoint traces none",
}
