"""Probes on functions without an sk_buff argument: nested calls, and skb lifetime hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.types import Kind
from pypwru.discovery import lifetime, tables
from pypwru.discovery.functions import Function, Refused
from pypwru.kernel.kallsyms import Symbols, display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from pypwru.btf.query import BTF
    from pypwru.kernel.ftrace import Traceable

# Suffix of a BPF map operation -> handlers; the value of a look-up is known at its return.
_ON_MAPS: Mapping[str, tuple[lifetime.Hook, ...]] = {
    "_update_elem": (lifetime.Hook("trace_map_update"),),
    "_delete_elem": (lifetime.Hook("trace_map_delete"),),
    "_lookup_elem": (
        lifetime.Hook("trace_map_lookup"),
        lifetime.Hook("trace_map_lookup_exit", returns=True),
    ),
}
_ON_STACK = (lifetime.Hook("trace_stack"),)


class Tracking(NamedTuple):
    """How packets are tracked beyond the filters.

    Args:
        by_address: --filter-track-skb.
        by_stack: --filter-track-skb-by-stackid, or a flag that implies it.
        functions: returns the names of functions without an sk_buff argument to trace when a packet
            is on the stack; None for none.
        maps: record the arguments of BPF map operations.
        by_verdict: handlers keep the netfilter verdict of a packet, and add it to later events.
        by_sight: handlers keep the ``seen`` map.
        in_bulk: the kernel also frees sk_buffs in bulk, and packet ids depend on noticing that.
    """

    by_address: bool = False
    by_stack: bool = False
    functions: Callable[[Symbols], Collection[str]] | None = None
    maps: bool = False
    by_verdict: bool = False
    by_sight: bool = False
    in_bulk: bool = False

    @property
    def follows(self) -> bool:
        """Whether handlers keep any state per sk_buff, so that its lifetime matters."""
        return self.by_address or self.by_stack or self.by_verdict or self.by_sight


class Probe(NamedTuple):
    """A function and the hook that is attached to it."""

    hook: lifetime.Hook
    function: Function


def stack_probes(
    tracking: Tracking,
    btf: BTF,
    traceable: Traceable,
    symbols: Symbols,
    traced: Collection[str],
) -> tuple[list[Probe], list[Refused]]:
    """Return the probes on nested calls, and the functions that can't be hooked.

    Args:
        tracking: names the functions.
        btf: of vmlinux; identifies BPF map operations.
        traceable: the functions that ftrace can hook.
        symbols: all of kallsyms.
        traced: names of functions that are traced by their sk_buff argument already.
    """
    if tracking.functions is None:
        return [], []
    names = frozenset(tracking.functions(symbols)).difference(traced)
    on_maps = set(_on_maps(btf)) if tracking.maps else set()
    probes, refused = [], []
    known = list(_functions(names, symbols))
    for function in known:
        if (function.name, function.module) not in traceable:
            refused.append(Refused(function, "ftrace can't hook it"))
            continue
        for hook in _hooks(function.name, on_maps):
            probes.append(Probe(hook, function))
    absent = names.difference(function.name for function in known)
    refused += [
        Refused(_function(name, "", ()), "it is not in /proc/kallsyms") for name in sorted(absent)
    ]
    return probes, refused


def life_probes(
    tracking: Tracking, traceable: Traceable, symbols: Symbols, traced: Collection[str]
) -> list[Probe]:
    """Return the probes on allocation, copy and free of sk_buffs; they write no event.

    Args:
        tracking: decides which are needed.
        traceable: the functions that ftrace can hook.
        symbols: kallsyms, at least of lifetime.NAMES.
        traced: names of functions that are traced by their sk_buff argument: no free hook.
    """
    by_life = tracking.by_address or tracking.by_sight
    wanted = dict(lifetime.TRACKING) if by_life else {}
    wanted |= lifetime.IN_BULK if tracking.in_bulk else {}
    if by_life or tracking.by_stack:
        there = [name for name in lifetime.FREES if (name, "") in traceable]
        frees = lifetime.final(there).difference(traced)
        wanted |= dict.fromkeys(frees, lifetime.FORGETTING)
    return [
        # No category: compiling that table takes longer than everything else here.
        Probe(hook, Function(name, "", 0, 0, addresses, name, "", 0))
        for name, hook in wanted.items()
        if (name, "") in traceable and (addresses := symbols.addresses(name))
    ]


def verdict_probes(
    tracking: Tracking, traceable: Traceable, symbols: Symbols, traced: Collection[str]
) -> list[Probe]:
    """Return the lifetime probes that are needed only once a verdict source is attached.

    Args:
        tracking: decides which are needed.
        traceable, symbols, traced: as of ``life_probes``.
    """
    if not tracking.by_verdict:
        return []
    already = life_probes(tracking, traceable, symbols, traced)
    needed = life_probes(tracking._replace(by_address=True), traceable, symbols, traced)
    return [probe for probe in needed if probe not in already]


def _hooks(name: str, on_maps: Collection[str]) -> tuple[lifetime.Hook, ...]:
    if name in on_maps:
        for ending, hooks in _ON_MAPS.items():
            if name.endswith(ending):
                return hooks
    return _ON_STACK


def _functions(names: Collection[str], symbols: Symbols) -> Iterator[Function]:
    for display, addresses in symbols.by_name.items():
        name, _, module = display.partition("[")
        if name in names:
            yield _function(name, module.removesuffix("]"), addresses)


def _function(name: str, module: str, addresses: tuple[int, ...]) -> Function:
    category, priority = tables.category(name, module), tables.function_priority(name)
    display = display_name(name, module)
    return Function(name, module, 0, 0, addresses, display, category, priority)


def _on_maps(btf: BTF) -> Iterator[str]:
    """Yield the names of BPF map operations, by pwru's rule: the first argument is the map.

    That is a ``struct bpf_map *``, or in a BPF helper (BPF_CALL_n) a u64 named ``map``.
    """
    for name, proto_id in btf.functions():
        if not name.endswith(tuple(_ON_MAPS)):
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
