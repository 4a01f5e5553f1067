"""Find the functions that take an sk_buff and can be traced: BTF x ftrace x kallsyms x selection.

The rules are pwru's (GetFuncs() of its internal/pwru/utils.go) with three exceptions: ``const
struct sk_buff *`` counts; of several sk_buffs the first is taken; structs that are passed by value
count with the registers that they occupy. As in pwru, names with a compiler suffix (.isra,
.constprop, .part, .cold) are not traced, as their arguments may have moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import prototypes, tables
from pypwru.kernel.kallsyms import Symbols, display_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pypwru.btf.query import BTF
    from pypwru.discovery.selection import Selection
    from pypwru.kernel.ftrace import Traceable

# The ftrace call site is less than this many bytes after the function's address: ENDBR or BTI and
# padding take 4 to 16 bytes, and no function that can be hooked is shorter.
_HOOK_RANGE = 17


class Function(NamedTuple):
    """A function to trace.

    Args:
        name: as in BTF.
        module: '' for vmlinux.
        position: index of the argument register that holds the sk_buff, 1 to 5; 0 for none.
        reason: the same of an ``enum skb_drop_reason``; 0 for none.
        addresses: of all functions of that name that can be traced; () where unknown.
        display: ``name`` or ``name[module]``.
        category: one of tables.categories(); '' if its calls are never shown.
        priority: 0 (highest) to 3.
    """

    name: str
    module: str
    position: int
    reason: int
    addresses: tuple[int, ...]
    display: str
    category: str
    priority: int


class Refused(NamedTuple):
    """A function that was selected and can't be traced, with the reason."""

    function: Function
    why: str


class Discovery(NamedTuple):
    """The result of a discovery.

    Args:
        functions: to trace, in the order of their BTF.
        refused: selected functions that can't be traced.
    """

    functions: tuple[Function, ...]
    refused: tuple[Refused, ...]


class _Candidate(NamedTuple):
    function: Function
    why: str
    """The reason for which its prototype rules it out; '' if it doesn't."""


def discover_functions(
    btf: BTF,
    modules: Mapping[str, BTF],
    traceable: Traceable | None,
    symbols: Symbols | None,
    selection: Selection,
) -> Discovery:
    """Return the functions to trace.

    Args:
        btf, modules, traceable, symbols: as of ``all_functions``.
        selection: by name, category and priority.

    Raises:
        BTFError: malformed BTF.
    """
    return select(all_functions(btf, modules, traceable, symbols), selection)


def select(found: Discovery, selection: Selection) -> Discovery:
    """Return the part of a discovery that matches the selection.

    Args:
        found: of ``all_functions``.
        selection: by name, category and priority.
    """

    def matches(function: Function) -> bool:
        name, display = function.name, function.display
        if name in selection.also and selection.tells(name, bool(function.reason)):
            return True
        return selection.asks(name, display, function.category, function.priority)

    return Discovery(
        tuple(filter(matches, found.functions)),
        tuple(refused for refused in found.refused if matches(refused.function)),
    )


def all_functions(
    btf: BTF,
    modules: Mapping[str, BTF],
    traceable: Traceable | None,
    symbols: Symbols | None,
) -> Discovery:
    """Return every function that takes an sk_buff.

    Args:
        btf: of vmlinux.
        modules: module name -> its BTF, of the modules whose functions are traced.
        traceable: the functions that ftrace can hook; None if unknown: then none is ruled out.
        symbols: of the running kernel; None if unknown: then no function has an address.

    Raises:
        BTFError: malformed BTF.
    """
    return functions_of({"": btf, **modules}, traceable, symbols)


def functions_of(
    types: Mapping[str, BTF], traceable: Traceable | None, symbols: Symbols | None
) -> Discovery:
    """Return every function of these modules that takes an sk_buff.

    Args:
        types: module name, '' for vmlinux -> its BTF.
        traceable, symbols: as of ``all_functions``.

    Raises:
        BTFError: malformed BTF.
    """
    wanted = [candidate for module, own in types.items() for candidate in _candidates(own, module)]
    refused: list[Refused] = []
    found: dict[str, Function] = {}
    for function, why in wanted:
        why = why or _why_not_traceable(function, traceable)
        known = found.get(function.display)
        if not why and known and known.position != function.position:
            del found[function.display]
            why = "several functions of this name take the sk_buff in different arguments"
        if why:
            refused.append(Refused(function, why))
        else:
            found[function.display] = function
    located = _locate(list(found.values()), traceable, symbols)
    absent = found.keys() - {one.display for one in located}
    refused += [
        Refused(one, "it has no address in /proc/kallsyms")
        for one in found.values()
        if one.display in absent
    ]
    return Discovery(tuple(located), tuple(refused))


def _candidates(btf: BTF, module: str) -> Iterator[_Candidate]:
    """Yield the functions of one BTF that take an sk_buff."""
    for name, proto_id, places in btf.functions_taking(prototypes.PACKET, max_args=32):
        position = prototypes.register(btf, proto_id, places[0])
        why = ""
        if position is None:
            why = "a struct of over 16 bytes is passed by value before the sk_buff"
        elif position > prototypes.REGISTERS:
            why = f"argument {places[0]}: only the first {prototypes.REGISTERS} can be read"
        yield _Candidate(
            Function(
                name,
                module,
                position or 0,
                _reason(btf, proto_id),
                (),
                display_name(name, module),
                tables.category(name, module),
                tables.function_priority(name),
            ),
            why,
        )


def _reason(btf: BTF, proto_id: int) -> int:
    place = prototypes.place_of_reason(btf, proto_id)
    position = prototypes.register(btf, proto_id, place) if place else None
    return position if position and position <= prototypes.REGISTERS else 0


def _why_not_traceable(function: Function, traceable: Traceable | None) -> str:
    if traceable is None or (function.name, function.module) in traceable:
        return ""
    variants = traceable.variants.get((function.name, function.module))
    if variants:
        return f"compiled only as {variants[0]}, whose arguments may have moved"
    return "ftrace can't hook it: inlined, marked notrace, or not there in this kernel"


def _locate(
    functions: list[Function], traceable: Traceable | None, symbols: Symbols | None
) -> list[Function]:
    """Return ``functions`` with their addresses, without those that have none."""
    if symbols is None:
        return functions
    addresses = symbols.select({one.display for one in functions})
    located = [
        one._replace(addresses=addresses[one.display])
        for one in functions
        if one.display in addresses
    ]
    shared = [(one.name, one.module) for one in located if len(one.addresses) > 1]
    sites = traceable.call_sites(shared) if traceable and shared else None
    if not sites:
        return located
    return [
        one._replace(addresses=_hooked(one.addresses, sites.get((one.name, one.module), ())))
        for one in located
    ]


def _hooked(addresses: tuple[int, ...], sites: tuple[int, ...]) -> tuple[int, ...]:
    """Return the addresses that have an ftrace call site; all if no call site is near any."""
    hooked = tuple(
        start for start in addresses if any(0 <= site - start < _HOOK_RANGE for site in sites)
    )
    return hooked or addresses
