"""Probes on functions without an sk_buff argument: nested calls, and skb lifetime hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.types import Kind
from pypwru.discovery import function_tables, skb_lifetime
from pypwru.discovery.functions import Function, Unattachable
from pypwru.kernel.kallsyms import Symbols, display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from pypwru.btf.query import BTF
    from pypwru.kernel.ftrace import TraceableFunctions

# Suffix of a BPF map operation -> handlers; the value of a look-up is known at its return.
_MAP_OPERATION_HOOKS: Mapping[str, tuple[skb_lifetime.Hook, ...]] = {
    "_update_elem": (skb_lifetime.Hook("trace_map_update"),),
    "_delete_elem": (skb_lifetime.Hook("trace_map_delete"),),
    "_lookup_elem": (
        skb_lifetime.Hook("trace_map_lookup"),
        skb_lifetime.Hook("trace_map_lookup_exit", is_return=True),
    ),
}
_NESTED_CALL_HOOKS = (skb_lifetime.Hook("trace_nested_call"),)


class Tracking(NamedTuple):
    """How packets are tracked beyond the filters.

    Args:
        by_address: --filter-track-skb.
        by_stack: --filter-track-skb-by-stackid, or a flag that implies it.
        nested_functions: returns the names of functions without an sk_buff argument to trace when
            a packet is on the stack; None for none.
        records_map_calls: record the arguments of BPF map operations.
        keeps_verdicts: handlers keep the netfilter verdict of a packet, and add it to later events.
        uses_seen_map: handlers keep the ``seen`` map.
        has_bulk_free: the kernel also frees sk_buffs in bulk, and packet ids depend on noticing
            that.
    """

    by_address: bool = False
    by_stack: bool = False
    nested_functions: Callable[[Symbols], Collection[str]] | None = None
    records_map_calls: bool = False
    keeps_verdicts: bool = False
    uses_seen_map: bool = False
    has_bulk_free: bool = False

    @property
    def tracks_lifetime(self) -> bool:
        """Whether handlers keep any state per sk_buff, so that its lifetime matters."""
        return self.by_address or self.by_stack or self.keeps_verdicts or self.uses_seen_map


class Probe(NamedTuple):
    """A function and the hook that is attached to it."""

    hook: skb_lifetime.Hook
    function: Function


def nested_call_probes(
    tracking: Tracking,
    btf: BTF,
    traceable: TraceableFunctions,
    symbols: Symbols,
    traced: Collection[str],
) -> tuple[list[Probe], list[Unattachable]]:
    """Return the probes on nested calls, and the functions that can't be hooked.

    Args:
        tracking: names the functions.
        btf: of vmlinux; identifies BPF map operations.
        traceable: the functions that ftrace can hook.
        symbols: all of kallsyms.
        traced: names of functions that are traced by their sk_buff argument already.
    """
    if tracking.nested_functions is None:
        return [], []
    names = frozenset(tracking.nested_functions(symbols)).difference(traced)
    map_operations = set(_map_operations(btf)) if tracking.records_map_calls else set()
    probes, unattachable = [], []
    functions = list(_find_functions(names, symbols))
    for function in functions:
        if (function.name, function.module) not in traceable:
            unattachable.append(Unattachable(function, "ftrace can't hook it"))
            continue
        for hook in _select_hooks(function.name, map_operations):
            probes.append(Probe(hook, function))
    absent = names.difference(function.name for function in functions)
    unattachable += [
        Unattachable(_make_function(name, "", ()), "it is not in /proc/kallsyms")
        for name in sorted(absent)
    ]
    return probes, unattachable


def lifetime_probes(
    tracking: Tracking, traceable: TraceableFunctions, symbols: Symbols, traced: Collection[str]
) -> list[Probe]:
    """Return the probes on allocation, copy and free of sk_buffs; they write no event.

    Args:
        tracking: decides which are needed.
        traceable: the functions that ftrace can hook.
        symbols: kallsyms, at least of ``skb_lifetime.HOOKED_FUNCTIONS``.
        traced: names of functions that are traced by their sk_buff argument: no free hook.
    """
    needs_lifetime_hooks = tracking.by_address or tracking.uses_seen_map
    hooks = dict(skb_lifetime.LIFETIME_HOOKS) if needs_lifetime_hooks else {}
    hooks |= skb_lifetime.BULK_FREE_HOOKS if tracking.has_bulk_free else {}
    if needs_lifetime_hooks or tracking.by_stack:
        hookable = [name for name in skb_lifetime.FREE_FUNCTIONS if (name, "") in traceable]
        frees = skb_lifetime.terminal_free_functions(hookable).difference(traced)
        hooks |= dict.fromkeys(frees, skb_lifetime.FREE_HOOK)
    return [
        # No category: compiling that table takes longer than everything else here.
        Probe(hook, Function(name, "", 0, 0, addresses, name, "", 0))
        for name, hook in hooks.items()
        if (name, "") in traceable and (addresses := symbols.addresses(name))
    ]


def verdict_lifetime_probes(
    tracking: Tracking, traceable: TraceableFunctions, symbols: Symbols, traced: Collection[str]
) -> list[Probe]:
    """Return the lifetime probes that are needed only once a verdict source is attached.

    Args:
        tracking: decides which are needed.
        traceable: the functions that ftrace can hook.
        symbols: kallsyms, at least of ``skb_lifetime.HOOKED_FUNCTIONS``.
        traced: names of functions that are traced by their sk_buff argument.
    """
    if not tracking.keeps_verdicts:
        return []
    already = lifetime_probes(tracking, traceable, symbols, traced)
    needed = lifetime_probes(tracking._replace(by_address=True), traceable, symbols, traced)
    return [probe for probe in needed if probe not in already]


def _select_hooks(name: str, map_operations: Collection[str]) -> tuple[skb_lifetime.Hook, ...]:
    if name in map_operations:
        for suffix, hooks in _MAP_OPERATION_HOOKS.items():
            if name.endswith(suffix):
                return hooks
    return _NESTED_CALL_HOOKS


def _find_functions(names: Collection[str], symbols: Symbols) -> Iterator[Function]:
    for display, addresses in symbols.by_name.items():
        name, _, module = display.partition("[")
        if name in names:
            yield _make_function(name, module.removesuffix("]"), addresses)


def _make_function(name: str, module: str, addresses: tuple[int, ...]) -> Function:
    category, priority = (
        function_tables.category(name, module),
        function_tables.function_priority(name),
    )
    display = display_name(name, module)
    return Function(name, module, 0, 0, addresses, display, category, priority)


def _map_operations(btf: BTF) -> Iterator[str]:
    """Yield the names of BPF map operations, by pwru's rule: the first argument is the map.

    That is a ``struct bpf_map *``, or in a BPF helper (BPF_CALL_n) a u64 named ``map``.
    """
    for name, proto_id in btf.functions():
        if not name.endswith(tuple(_MAP_OPERATION_HOOKS)):
            continue
        params = btf.params(proto_id)
        if not params:
            continue
        target = btf.pointee(params[0].type)
        if target is None:
            is_map = params[0].name == "map"
        else:
            found = btf.type(target)
            is_map = found.kind is Kind.STRUCT and found.name == "bpf_map"
        if is_map:
            yield name
