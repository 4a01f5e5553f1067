"""The attach plan: what will be attached, as data; nothing here touches the kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Backend
from pypwru.discovery.argument_slots import ArgumentSlots
from pypwru.discovery.functions import DiscoveryResult, Function, Unattachable
from pypwru.discovery.handlers import HANDLERS, TRACE_SKB, TRACE_SKB_LAST, HandlerKind
from pypwru.discovery.skb_lifetime import TERMINAL_TARGETS, terminal_free_functions

if TYPE_CHECKING:
    from pypwru.discovery.auxiliary_probes import Probe
    from pypwru.discovery.fentry_targets import TypeIds
    from pypwru.discovery.tracepoints import Tracepoint


class Handler(NamedTuple):
    """A compiled handler together with its argument positions: one loaded program.

    Args:
        name: of the function in bpf/*.bpf.c; those of trace.bpf.c are the keys of HANDLERS.
        skb_arg, reason_arg: index of the sk_buff and drop reason arguments, from 1; 0 for none.
        is_return: True to run at the function's return.
        number: written into records as their address, by handlers that can't query where they run.
    """

    name: str
    skb_arg: int = 0
    reason_arg: int = 0
    is_return: bool = False
    number: int = 0

    @property
    def takes_skb(self) -> bool:
        """Whether it handles functions that are traced by their sk_buff argument."""
        return HANDLERS[self.name].kind is HandlerKind.SKB_FUNCTION

    @property
    def argument_slots(self) -> ArgumentSlots:
        """Its argument positions, for the loader."""
        return ArgumentSlots(self.skb_arg, self.reason_arg)


Groups = Mapping[Handler, tuple[Function, ...]]


class AttachPlan(NamedTuple):
    """Everything that one session attaches.

    Args:
        backend: attaches ``groups``, or the tracepoints.
        groups: handler -> the functions that it is attached to, in the order of discovery.
        hooks: the same for probes on skb lifetime functions, which write no event.
        tracepoints: of the tracepoint backend, which attaches no functions.
        unattachable: selected functions that can't be traced.
        tracks_lifetime: whether state is kept per sk_buff, so that its lifetime matters.
        kprobe_plan: plan of the kprobes beside fentry; None if the kernel has no kprobes.
        type_ids: display name -> BTF type id, of the functions that fentry can attach to.
    """

    backend: Backend
    groups: Groups = MappingProxyType({})
    hooks: Groups = MappingProxyType({})
    tracepoints: tuple[Tracepoint, ...] = ()
    unattachable: tuple[Unattachable, ...] = ()
    tracks_lifetime: bool = False
    kprobe_plan: AttachPlan | None = None
    type_ids: TypeIds = MappingProxyType({})

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions of all groups, each once."""
        kprobe_functions = self.kprobe_plan.functions if self.kprobe_plan else ()
        return tuple(dict.fromkeys([*chain.from_iterable(self.groups.values()), *kprobe_functions]))

    @property
    def backends(self) -> set[Backend]:
        """The backends of the functions, and of the probes beside fentry."""
        return {self.backend, *(self.kprobe_plan.backends if self.kprobe_plan else ())}

    @property
    def target_count(self) -> int:
        """Number of functions and tracepoints."""
        return len(self.functions) + len(self.tracepoints)

    @property
    def addresses(self) -> int:
        """Number of addresses of the functions; 0 for tracepoints."""
        return sum(len(function.addresses) for function in self.functions)

    @property
    def unattachable_reasons(self) -> tuple[tuple[str, str], ...]:
        """(display name, reason) of each selected function that can't be traced."""
        return tuple((function.display, why) for function, why in self.unattachable)

    def handler_for(self, tracepoint: Tracepoint) -> Handler:
        """Return the handler of a tracepoint, with argument positions from 1."""
        is_terminal = self.tracks_lifetime and f"tp:{tracepoint.name}" in TERMINAL_TARGETS
        reason_arg = 0 if tracepoint.reason_index is None else tracepoint.reason_index + 1
        name = TRACE_SKB_LAST if is_terminal else TRACE_SKB
        return Handler(name, tracepoint.skb_index + 1, reason_arg)


def plan_functions(
    backend: Backend,
    discovery: DiscoveryResult,
    nested_calls: Iterable[Probe] = (),
    hooks: Iterable[Probe] = (),
    tracks_lifetime: bool = False,
) -> AttachPlan:
    """Return a plan with the functions grouped by handler.

    Args:
        backend: of the functions.
        discovery: the functions to trace.
        nested_calls: probes on functions without an sk_buff argument; they write events.
        hooks: probes on skb lifetime functions; they write no event.
        tracks_lifetime: whether state is kept per sk_buff, so that its lifetime matters.
    """
    hooks = list(hooks)
    names = {probe.function.name for probe in hooks} | {each.name for each in discovery.functions}
    terminal = terminal_free_functions(names) if tracks_lifetime else frozenset()
    skb_handlers = [
        (
            Handler(_handler_name(function.name, terminal), function.skb_arg, function.reason_arg),
            function,
        )
        for function in discovery.functions
    ]
    return AttachPlan(
        backend,
        _group_pairs([*skb_handlers, *map(_auxiliary_handler, nested_calls)]),
        group_by_handler(hooks),
        unattachable=discovery.unattachable,
        tracks_lifetime=tracks_lifetime,
    )


def plan_fentry(plan: AttachPlan, type_ids: TypeIds, kprobe_backend: Backend | None) -> AttachPlan:
    """Return the plan with everything that fentry can't do moved to kprobes.

    Args:
        plan: of plan_functions() for a fentry backend.
        type_ids: display name -> BTF type id, of the functions that fentry can attach to.
        kprobe_backend: the backend for kprobes; None if there is none.
    """
    skb_groups = {
        handler: functions for handler, functions in plan.groups.items() if handler.takes_skb
    }
    other_groups = {
        handler: functions
        for handler, functions in plan.groups.items()
        if handler not in skb_groups
    }
    kprobe_plan = AttachPlan(kprobe_backend, other_groups, plan.hooks) if kprobe_backend else None
    return plan._replace(groups=skb_groups, hooks={}, kprobe_plan=kprobe_plan, type_ids=type_ids)


def with_kprobe_fallback(kprobe_plan: AttachPlan, functions: Groups) -> AttachPlan:
    """Return the kprobe plan extended by ``functions`` that fentry could not attach to.

    Args:
        kprobe_plan: the plan beside fentry.
        functions: fentry handler -> its functions; the handler is replaced by its kprobe variant.
    """
    fallbacks = {
        handler._replace(name=HANDLERS[handler.name].kprobe_variant): group
        for handler, group in functions.items()
    }
    return kprobe_plan._replace(groups={**kprobe_plan.groups, **fallbacks})


def _handler_name(name: str, terminal: Collection[str]) -> str:
    return TRACE_SKB_LAST if name in terminal else TRACE_SKB


def _auxiliary_handler(probe: Probe) -> tuple[Handler, Function]:
    # These functions have their sk_buff, if any, in the first argument.
    return Handler(probe.hook.handler, 1, 0, probe.hook.is_return), probe.function


def group_by_handler(probes: Iterable[Probe]) -> Groups:
    """Return the functions of the probes, grouped by handler."""
    return _group_pairs(map(_auxiliary_handler, probes))


def _group_pairs(pairs: Iterable[tuple[Handler, Function]]) -> Groups:
    groups: dict[Handler, list[Function]] = {}
    for handler, function in pairs:
        groups.setdefault(handler, []).append(function)
    return MappingProxyType({handler: tuple(group) for handler, group in sorted(groups.items())})


def plan_tracepoints(
    tracepoints: tuple[Tracepoint, ...], tracks_lifetime: bool = False
) -> AttachPlan:
    """Return the plan of the tracepoint backend, where each tracepoint has a program of its own.

    Args:
        tracepoints: to trace.
        tracks_lifetime: whether state is kept per sk_buff, so that its lifetime matters.
    """
    return AttachPlan(Backend.TRACEPOINT, tracepoints=tracepoints, tracks_lifetime=tracks_lifetime)
