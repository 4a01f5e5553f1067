"""Find the functions that take an sk_buff and can be traced: BTF x ftrace x kallsyms x selection.

The rules are pwru's (GetFuncs() of its internal/pwru/utils.go) with three exceptions: ``const
struct sk_buff *`` counts; of several sk_buffs the first is taken; structs that are passed by value
count with the registers that they occupy. As in pwru, names with a compiler suffix (.isra,
.constprop, .part, .cold) are not traced, as their arguments may have moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import arguments, function_tables
from pypwru.kernel.kallsyms import Symbols, display_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pypwru.btf.query import BTF
    from pypwru.discovery.selection import Selection
    from pypwru.kernel.ftrace import TraceableFunctions

# The ftrace call site is less than this many bytes after the function's address: ENDBR or BTI and
# padding take 4 to 16 bytes, and no function that can be hooked is shorter.
_MAX_SITE_OFFSET = 17


class Function(NamedTuple):
    """A function to trace.

    Args:
        name: as in BTF.
        module: '' for vmlinux.
        skb_arg: index of the argument register that holds the sk_buff, 1 to 5; 0 for none.
        reason_arg: the same of an ``enum skb_drop_reason``; 0 for none.
        addresses: of all functions of that name that can be traced; () where unknown.
        display: ``name`` or ``name[module]``.
        category: one of function_tables.categories(); '' if its calls are never shown.
        priority: 0 (highest) to 3.
    """

    name: str
    module: str
    skb_arg: int
    reason_arg: int
    addresses: tuple[int, ...]
    display: str
    category: str
    priority: int


class Unattachable(NamedTuple):
    """A function that was selected and can't be traced, with the reason."""

    function: Function
    why: str


class DiscoveryResult(NamedTuple):
    """The result of a discovery.

    Args:
        functions: to trace, in the order of their BTF.
        unattachable: selected functions that can't be traced.
    """

    functions: tuple[Function, ...]
    unattachable: tuple[Unattachable, ...]


class _Candidate(NamedTuple):
    function: Function
    why: str
    """The reason for which its prototype rules it out; '' if it doesn't."""


def discover_functions(
    btf: BTF,
    modules: Mapping[str, BTF],
    traceable: TraceableFunctions | None,
    symbols: Symbols | None,
    selection: Selection,
) -> DiscoveryResult:
    """Return the functions to trace.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules whose functions are traced.
        traceable: the functions that ftrace can hook; None if unknown: then none is ruled out.
        symbols: of the running kernel; None if unknown: then no function has an address.
        selection: by name, category and priority.

    Raises:
        BTFError: malformed BTF.
    """
    return select(find_all_functions(btf, modules, traceable, symbols), selection)


def select(found: DiscoveryResult, selection: Selection) -> DiscoveryResult:
    """Return the part of a discovery that matches the selection.

    Args:
        found: of ``find_all_functions``.
        selection: by name, category and priority.
    """

    def matches(function: Function) -> bool:
        name, display = function.name, function.display
        if name in selection.implicit and selection.is_implicit(name, bool(function.reason_arg)):
            return True
        return selection.matches(name, display, function.category, function.priority)

    return DiscoveryResult(
        tuple(filter(matches, found.functions)),
        tuple(
            unattachable for unattachable in found.unattachable if matches(unattachable.function)
        ),
    )


def find_all_functions(
    btf: BTF,
    modules: Mapping[str, BTF],
    traceable: TraceableFunctions | None,
    symbols: Symbols | None,
) -> DiscoveryResult:
    """Return every function that takes an sk_buff.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules whose functions are traced.
        traceable: the functions that ftrace can hook; None if unknown: then none is ruled out.
        symbols: of the running kernel; None if unknown: then no function has an address.

    Raises:
        BTFError: malformed BTF.
    """
    return find_module_functions({"": btf, **modules}, traceable, symbols)


def find_module_functions(
    types: Mapping[str, BTF], traceable: TraceableFunctions | None, symbols: Symbols | None
) -> DiscoveryResult:
    """Return every function of these modules that takes an sk_buff.

    Args:
        types: module name, '' for vmlinux -> its BTF.
        traceable: the functions that ftrace can hook; None if unknown: then none is ruled out.
        symbols: of the running kernel; None if unknown: then no function has an address.

    Raises:
        BTFError: malformed BTF.
    """
    candidates = [
        candidate
        for module, module_btf in types.items()
        for candidate in _find_candidates(module_btf, module)
    ]
    unattachable: list[Unattachable] = []
    found: dict[str, Function] = {}
    for function, why in candidates:
        why = why or _why_not_traceable(function, traceable)
        earlier = found.get(function.display)
        if not why and earlier and earlier.skb_arg != function.skb_arg:
            del found[function.display]
            why = "several functions of this name take the sk_buff in different arguments"
        if why:
            unattachable.append(Unattachable(function, why))
        else:
            found[function.display] = function
    located = _add_addresses(list(found.values()), traceable, symbols)
    absent = found.keys() - {one.display for one in located}
    unattachable += [
        Unattachable(one, "it has no address in /proc/kallsyms")
        for one in found.values()
        if one.display in absent
    ]
    return DiscoveryResult(tuple(located), tuple(unattachable))


def _find_candidates(btf: BTF, module: str) -> Iterator[_Candidate]:
    """Yield the functions of one BTF that take an sk_buff."""
    for name, proto_id, param_indexes in btf.functions_taking(arguments.SKB_STRUCT, max_args=32):
        register = arguments.argument_register(btf, proto_id, param_indexes[0])
        why = ""
        if register is None:
            why = "a struct of over 16 bytes is passed by value before the sk_buff"
        elif register > arguments.MAX_REGISTERS:
            why = (
                f"argument {param_indexes[0]}: only the first {arguments.MAX_REGISTERS} can be read"
            )
        yield _Candidate(
            Function(
                name,
                module,
                register or 0,
                _reason_register(btf, proto_id),
                (),
                display_name(name, module),
                function_tables.category(name, module),
                function_tables.function_priority(name),
            ),
            why,
        )


def _reason_register(btf: BTF, proto_id: int) -> int:
    param_index = arguments.find_reason_param(btf, proto_id)
    register = arguments.argument_register(btf, proto_id, param_index) if param_index else None
    return register if register and register <= arguments.MAX_REGISTERS else 0


def _why_not_traceable(function: Function, traceable: TraceableFunctions | None) -> str:
    if traceable is None or (function.name, function.module) in traceable:
        return ""
    variants = traceable.variants.get((function.name, function.module))
    if variants:
        return f"compiled only as {variants[0]}, whose arguments may have moved"
    return "ftrace can't hook it: inlined, marked notrace, or not there in this kernel"


def _add_addresses(
    functions: list[Function], traceable: TraceableFunctions | None, symbols: Symbols | None
) -> list[Function]:
    """Return ``functions`` with their addresses, without those that have none."""
    if symbols is None:
        return functions
    addresses = symbols.select({function.display for function in functions})
    located = [
        function._replace(addresses=addresses[function.display])
        for function in functions
        if function.display in addresses
    ]
    shared = [
        (function.name, function.module) for function in located if len(function.addresses) > 1
    ]
    sites = traceable.call_sites(shared) if traceable and shared else None
    if not sites:
        return located
    return [
        function._replace(
            addresses=_addresses_with_ftrace_site(
                function.addresses, sites.get((function.name, function.module), ())
            )
        )
        for function in located
    ]


def _addresses_with_ftrace_site(
    addresses: tuple[int, ...], sites: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the addresses that have an ftrace call site; all if no call site is near any."""
    hooked = tuple(
        start for start in addresses if any(0 <= site - start < _MAX_SITE_OFFSET for site in sites)
    )
    return hooked or addresses
