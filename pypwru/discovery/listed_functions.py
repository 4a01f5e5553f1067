"""Resolve the names of --functions to modules, and explain why some are not traced."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.types import Kind
from pypwru.discovery import arguments
from pypwru.discovery.function_list import NameList, module_of
from pypwru.discovery.selection import TRACEPOINT_PREFIX, is_tracepoint
from pypwru.errors import BTFError
from pypwru.kernel.kallsyms import display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pypwru.btf.query import BTF

_MAX_ARGS = 32  # arguments to search: an sk_buff in one that can't be read has an error of its own


class ResolvedNames(NamedTuple):
    """The resolved names of --functions.

    Args:
        modules: module name -> its BTF, of those of --kmods and those that the names need.
        displays: ``name``, ``name[module]`` or ``tp:name`` of each.
    """

    modules: dict[str, BTF]
    displays: frozenset[str]


def resolve_names(
    names: NameList,
    btf: BTF,
    modules: Mapping[str, BTF],
    load_btf: Callable[[str], BTF],
    loaded_modules: Iterable[str],
) -> ResolvedNames:
    """Resolve the names of --functions to modules.

    Args:
        names: of read_names().
        btf: of vmlinux.
        modules: module name -> its BTF, of --kmods.
        load_btf: returns the BTF of a module, or raises BTFError.
        loaded_modules: names of modules to search for a name without module that isn't in vmlinux.

    Raises:
        BTFError: the types of a loaded module can't be read.
    """
    found = dict(modules)
    for module in sorted({module_of(name) for name in names} - {"", *found}):
        with suppress(BTFError):  # its names are reported as missing
            found[module] = load_btf(module)
    displays = {display_name(name.partition("[")[0], module_of(name)) for name in names}
    without_module = {name for name in displays if not module_of(name)} - traceable_names(btf)
    for module in dict.fromkeys([*found, *loaded_modules]) if without_module else ():
        types = found[module] if module in found else load_btf(module)
        matches = traceable_names(types) & without_module
        if matches:
            found[module] = types
        in_module = {name for name in matches if not is_tracepoint(name)}
        displays = displays - in_module | {display_name(name, module) for name in in_module}
    return ResolvedNames(found, frozenset(displays))


def traceable_names(btf: BTF, module: str = "") -> set[str]:
    """Return the display names of functions and tracepoints in a BTF that take an sk_buff."""
    functions = {
        display_name(name, module)
        for name, _, _ in btf.functions_taking(arguments.SKB_STRUCT, max_args=_MAX_ARGS)
    }
    return functions | {
        TRACEPOINT_PREFIX + name
        for name, proto_id in btf.tracepoints()
        if arguments.find_skb_param(btf, proto_id) is not None
    }


class LookupScope(NamedTuple):
    """Where the names of --functions were searched.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF.
        is_tracepoint_backend: True with the tracepoint backend, which traces no functions.
    """

    btf: BTF
    modules: Mapping[str, BTF]
    is_tracepoint_backend: bool


def explain_missing(names: Iterable[str], scope: LookupScope) -> dict[str, list[str]]:
    """Return reason -> the names that are not traced for that reason.

    Args:
        names: display names in --functions that are neither traced nor refused by the kernel.
        scope: where they were searched.
    """
    traceable = set[str]().union(
        *(
            traceable_names(types, module)
            for module, types in {"": scope.btf, **scope.modules}.items()
        )
    )
    reasons: dict[str, list[str]] = {}
    for name in sorted(names):
        reasons.setdefault(_explain(name, name in traceable, scope), []).append(name)
    return reasons


def _explain(name: str, is_traceable: bool, scope: LookupScope) -> str:
    module = module_of(name)
    if is_traceable and is_tracepoint(name) is not scope.is_tracepoint_backend:
        return _WRONG_BACKEND[is_tracepoint(name)]
    if is_traceable:
        return "excluded by --filter-func, --priority or --category"
    if is_tracepoint(name):
        return "this kernel has no such tracepoint with an sk_buff argument"
    if module and module not in scope.modules:
        return f"no BTF of module {module}: it isn't loaded, or this kernel has no BTF of modules"
    types = scope.modules.get(module, scope.btf)
    if types.find(name.partition("[")[0], Kind.FUNC):
        return "it takes no sk_buff: trace it with --filter-non-skb-funcs"
    return "it is not in this kernel's BTF"


_WRONG_BACKEND = {
    True: "a tracepoint, which --backend tracepoint traces",
    False: "a function, and --backend tracepoint traces none",
}
