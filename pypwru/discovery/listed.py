"""The names of --functions: in which modules they are, and why some are not traced."""

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

_ANY = 32  # arguments: one that can't be read is told of as such


class Located(NamedTuple):
    """Where the names of a list are.

    Args:
        modules: those that were asked for anyway, and those that the list needs -> BTF.
        displays: the names, each with its module.
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
    """Find the modules of a list.

    Args:
        names: of read_names().
        btf: of vmlinux.
        modules: module -> BTF of those that are asked for anyway.
        load: gives the BTF of a module, or raises BTFError.
        loaded: the modules that are searched for a name that has none and isn't in vmlinux.
    """
    found = dict(modules)
    for module in sorted({module_of(name) for name in names} - {"", *found}):
        with suppress(BTFError):  # its names are told as missing
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
    """The displays of what in a BTF gets a packet."""
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
    """Where the names of a list were looked for.

    Args:
        btf: of vmlinux.
        modules: module -> BTF.
        by_tracepoints: whether raw tracepoints are traced, and no functions.
    """

    btf: BTF
    modules: Mapping[str, BTF]
    by_tracepoints: bool


def why_missing(names: Iterable[str], sought: Sought) -> dict[str, list[str]]:
    """Why -> which of the names aren't traced for that reason.

    Args:
        names: displays that are listed, and neither traced nor refused by the kernel.
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
        return "--filter-func, --priority or --category leaves it out"
    if is_tracepoint(name):
        return "this kernel has no such tracepoint that carries a packet"
    if module and module not in sought.modules:
        return f"no BTF of module {module}: it isn't loaded, or this kernel has none of modules"
    types = sought.modules.get(module, sought.btf)
    if types.find(name.partition("[")[0], Kind.FUNC):
        return "it gets no packet: name it with --filter-non-skb-funcs"
    return "it is not in this kernel's BTF"


_OTHER_BACKEND = {
    True: "a tracepoint, which --backend tracepoint traces",
    False: "a function, and --backend tracepoint traces none",
}
