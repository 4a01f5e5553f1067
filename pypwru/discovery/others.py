"""Functions without a packet: those that are traced by stack, and those that tell of lives."""

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

# Last words of functions on BPF maps -> handlers; a look-up's value is known at its return.
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
    """How packets are followed beyond the filters.

    Args:
        by_address: --filter-track-skb.
        by_stack: --filter-track-skb-by-stackid, or a flag that implies it.
        functions: the names of functions without a packet to trace; None for none.
        maps: what is called on BPF maps is recorded with its arguments.
        by_verdict: what nftables said of a packet goes with it.
        by_sight: whether a packet was seen is known.
        in_bulk: and sk_buffs are also freed many at a time, which matters.
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
        """Whether something is remembered of a packet, so that its life matters."""
        return self.by_address or self.by_stack or self.by_verdict or self.by_sight


class Probe(NamedTuple):
    """A function and what hangs on it."""

    hook: lifetime.Hook
    function: Function


def stack_probes(
    tracking: Tracking,
    btf: BTF,
    traceable: Traceable,
    symbols: Symbols,
    traced: Collection[str],
) -> tuple[list[Probe], list[Refused]]:
    """What is traced when called while a packet is handled; and what of it can't be.

    Args:
        traced: names of functions that are traced by their packet already.
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
    """What tells of births and deaths of sk_buffs and writes no record."""
    by_life = tracking.by_address or tracking.by_sight
    wanted = dict(lifetime.TRACKING) if by_life else {}
    wanted |= lifetime.IN_BULK if tracking.in_bulk else {}
    if by_life or tracking.by_stack:
        there = [name for name in lifetime.FREES if (name, "") in traceable]
        frees = lifetime.final(there).difference(traced)
        wanted |= dict.fromkeys(frees, lifetime.FORGETTING)
    return [
        # No category: to compile the table of those takes longer than all else here.
        Probe(hook, Function(name, "", 0, 0, addresses, name, "", 0))
        for name, hook in wanted.items()
        if (name, "") in traceable and (addresses := symbols.addresses(name))
    ]


def verdict_probes(
    tracking: Tracking, traceable: Traceable, symbols: Symbols, traced: Collection[str]
) -> list[Probe]:
    """The same, of what is needed only once nftables can say something of a packet."""
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
    """Functions on a BPF map, as pwru knows them: it is their first argument.

    That is a ``struct bpf_map *``, or of a BPF helper (BPF_CALL_n) a u64 that is named ``map``.
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
