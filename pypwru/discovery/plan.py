"""The attach plan: what will be attached, as data; nothing here touches the kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import Backend
from pypwru.discovery.functions import Discovery, Function, Refused
from pypwru.discovery.lifetime import LAST_SIGHTS, final
from pypwru.program.places import Places

if TYPE_CHECKING:
    from pypwru.discovery.fentry import TypeIds
    from pypwru.discovery.others import Probe
    from pypwru.discovery.tracepoints import Tracepoint


class Handler(NamedTuple):
    """A compiled handler together with its argument positions: one loaded program.

    Args:
        name: of the function in trace.bpf.c.
        packet, reason: index of the sk_buff and drop reason arguments, from 1; 0 for none.
        returns: True to run at the function's return.
        number: written into records as their address, by handlers that can't query where they run.
    """

    name: str
    packet: int = 0
    reason: int = 0
    returns: bool = False
    number: int = 0

    @property
    def serves_packet(self) -> bool:
        """Whether it handles functions that are traced by their sk_buff argument."""
        return self.name in ("trace_skb", "trace_skb_last")

    @property
    def places(self) -> Places:
        """Its argument positions, for the loader."""
        return Places(self.packet, self.reason)


Groups = Mapping[Handler, tuple[Function, ...]]


class AttachPlan(NamedTuple):
    """Everything that one session attaches.

    Args:
        backend: attaches ``groups``, or the tracepoints.
        groups: handler -> the functions that it is attached to, in the order of discovery.
        hooks: the same for probes on skb lifetime functions, which write no event.
        tracepoints: of the tracepoint backend, which attaches no functions.
        refused: selected functions that can't be traced.
        follows: whether state is kept per sk_buff, so that its lifetime matters.
        probes: plan of the kprobes beside fentry; None if the kernel has no kprobes.
        type_ids: display name -> BTF type id, of the functions that fentry can attach to.
    """

    backend: Backend
    groups: Groups = MappingProxyType({})
    hooks: Groups = MappingProxyType({})
    tracepoints: tuple[Tracepoint, ...] = ()
    refused: tuple[Refused, ...] = ()
    follows: bool = False
    probes: AttachPlan | None = None
    type_ids: TypeIds = MappingProxyType({})

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions of all groups, each once."""
        others = self.probes.functions if self.probes else ()
        return tuple(dict.fromkeys([*chain.from_iterable(self.groups.values()), *others]))

    @property
    def backends(self) -> set[Backend]:
        """The backends of the functions, and of the probes beside fentry."""
        return {self.backend, *(self.probes.backends if self.probes else ())}

    @property
    def total(self) -> int:
        """Number of functions and tracepoints."""
        return len(self.functions) + len(self.tracepoints)

    @property
    def addresses(self) -> int:
        """Number of addresses of the functions; 0 for tracepoints."""
        return sum(len(function.addresses) for function in self.functions)

    @property
    def unattachable(self) -> tuple[tuple[str, str], ...]:
        """(display name, reason) of each selected function that can't be traced."""
        return tuple((function.display, why) for function, why in self.refused)

    def serving(self, tracepoint: Tracepoint) -> Handler:
        """Return the handler of a tracepoint, with argument positions from 1."""
        last = self.follows and f"tp:{tracepoint.name}" in LAST_SIGHTS
        reason = 0 if tracepoint.reason is None else tracepoint.reason + 1
        return Handler("trace_skb_last" if last else "trace_skb", tracepoint.position + 1, reason)


def plan_functions(
    backend: Backend,
    discovery: Discovery,
    others: Iterable[Probe] = (),
    hooks: Iterable[Probe] = (),
    follows: bool = False,
) -> AttachPlan:
    """Return a plan with the functions grouped by handler.

    Args:
        backend: of the functions.
        discovery: the functions to trace.
        others: probes on functions without an sk_buff argument; they write events.
        hooks: probes on skb lifetime functions; they write no event.
        follows: whether state is kept per sk_buff, so that its lifetime matters.
    """
    hooks = list(hooks)
    there = {probe.function.name for probe in hooks} | {each.name for each in discovery.functions}
    last = final(there) if follows else frozenset()
    tracing = [
        (Handler(_handler(function.name, last), function.position, function.reason), function)
        for function in discovery.functions
    ]
    return AttachPlan(
        backend,
        _grouped([*tracing, *map(_served, others)]),
        grouped(hooks),
        refused=discovery.refused,
        follows=follows,
    )


def plan_fentry(plan: AttachPlan, type_ids: TypeIds, probes: Backend | None) -> AttachPlan:
    """Return the plan with everything that fentry can't do moved to kprobes.

    Args:
        plan: of plan_functions() for a fentry backend.
        type_ids: display name -> BTF type id, of the functions that fentry can attach to.
        probes: the backend for kprobes; None if there is none.
    """
    by_packet = {handler: them for handler, them in plan.groups.items() if handler.serves_packet}
    rest = {handler: them for handler, them in plan.groups.items() if handler not in by_packet}
    beside = AttachPlan(probes, rest, plan.hooks) if probes else None
    return plan._replace(groups=by_packet, hooks={}, probes=beside, type_ids=type_ids)


def with_probed(probes: AttachPlan, functions: Groups) -> AttachPlan:
    """Return the kprobe plan extended by ``functions`` that fentry could not attach to.

    Args:
        probes: the plan beside fentry.
        functions: fentry handler -> its functions; the handler is replaced by its kprobe variant.
    """
    more = {
        handler._replace(name=handler.name.replace("trace_", "probe_", 1)): them
        for handler, them in functions.items()
    }
    return probes._replace(groups={**probes.groups, **more})


def _handler(name: str, last: Collection[str]) -> str:
    return "trace_skb_last" if name in last else "trace_skb"


def _served(probe: Probe) -> tuple[Handler, Function]:
    # These functions have their sk_buff, if any, in the first argument.
    return Handler(probe.hook.handler, 1, 0, probe.hook.returns), probe.function


def grouped(probes: Iterable[Probe]) -> Groups:
    """Return the functions of the probes, grouped by handler."""
    return _grouped(map(_served, probes))


def _grouped(served: Iterable[tuple[Handler, Function]]) -> Groups:
    groups: dict[Handler, list[Function]] = {}
    for handler, function in served:
        groups.setdefault(handler, []).append(function)
    return MappingProxyType({handler: tuple(group) for handler, group in sorted(groups.items())})


def plan_tracepoints(tracepoints: tuple[Tracepoint, ...], follows: bool = False) -> AttachPlan:
    """Return the plan of the tracepoint backend, where each tracepoint has a program of its own.

    Args:
        tracepoints: to trace.
        follows: whether state is kept per sk_buff, so that its lifetime matters.
    """
    return AttachPlan(Backend.TRACEPOINT, tracepoints=tracepoints, follows=follows)
