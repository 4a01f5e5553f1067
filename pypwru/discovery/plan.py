"""What will be attached, as data: nothing here touches the kernel."""

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
    """A compiled handler with the places of its arguments: what one program serves.

    Args:
        name: of the function in trace.bpf.c.
        packet, reason: argument numbers, 0 for none.
        returns: it runs when the function returns.
        number: what its records say of where they come from, if it can't ask.
    """

    name: str
    packet: int = 0
    reason: int = 0
    returns: bool = False
    number: int = 0

    @property
    def serves_packet(self) -> bool:
        """Whether it is one of functions that are traced by their packet."""
        return self.name in ("trace_skb", "trace_skb_last")

    @property
    def places(self) -> Places:
        """For loading it."""
        return Places(self.packet, self.reason)


Groups = Mapping[Handler, tuple[Function, ...]]


class AttachPlan(NamedTuple):
    """Everything that one session attaches.

    Args:
        backend: how.
        groups: handler -> the functions that it is attached to, in the order of discovery.
        hooks: the same for probes that write no record: they follow tracked packets.
        tracepoints: for the tracepoint backend, which has no functions.
        refused: what was asked for and can't be traced.
        follows: whether packets are tracked, so that their end matters.
        probes: beside fentry: what hangs on kprobes; None where the kernel has none.
        type_ids: for fentry: display -> BTF type id, of the functions that it can be had on.
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
        """Those of all groups, each once."""
        others = self.probes.functions if self.probes else ()
        return tuple(dict.fromkeys([*chain.from_iterable(self.groups.values()), *others]))

    @property
    def backends(self) -> set[Backend]:
        """Of the functions, and of the other probes."""
        return {self.backend, *(self.probes.backends if self.probes else ())}

    @property
    def total(self) -> int:
        """How many functions or tracepoints."""
        return len(self.functions) + len(self.tracepoints)

    @property
    def addresses(self) -> int:
        """How many addresses the functions have; 0 for tracepoints."""
        return sum(len(function.addresses) for function in self.functions)

    @property
    def unattachable(self) -> tuple[tuple[str, str], ...]:
        """(display, why) of what was asked for and can't be traced."""
        return tuple((function.display, why) for function, why in self.refused)

    def serving(self, tracepoint: Tracepoint) -> Handler:
        """The handler of a tracepoint; its arguments are counted from 1."""
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
    """Group what was discovered by the handler that serves it.

    Args:
        backend: of the functions.
        discovery: of discover_functions().
        others: functions without a packet that are traced.
        hooks: what writes no record.
        follows: whether packets are tracked, so that their end matters.
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
    """The same by fentry, as far as it goes.

    Args:
        plan: of plan_functions() for a fentry backend.
        type_ids: of the functions that fentry can be had on.
        probes: the backend of what else there is; None for none.
    """
    by_packet = {handler: them for handler, them in plan.groups.items() if handler.serves_packet}
    rest = {handler: them for handler, them in plan.groups.items() if handler not in by_packet}
    beside = AttachPlan(probes, rest, plan.hooks) if probes else None
    return plan._replace(groups=by_packet, hooks={}, probes=beside, type_ids=type_ids)


def with_probed(probes: AttachPlan, functions: Groups) -> AttachPlan:
    """``probes``, and ``functions`` of which fentry was not to be had."""
    more = {
        handler._replace(name=handler.name.replace("trace_", "probe_", 1)): them
        for handler, them in functions.items()
    }
    return probes._replace(groups={**probes.groups, **more})


def _handler(name: str, last: Collection[str]) -> str:
    return "trace_skb_last" if name in last else "trace_skb"


def _served(probe: Probe) -> tuple[Handler, Function]:
    # What isn't traced by its packet has it, if at all, in the first argument.
    return Handler(probe.hook.handler, 1, 0, probe.hook.returns), probe.function


def grouped(probes: Iterable[Probe]) -> Groups:
    """Probes by their handlers."""
    return _grouped(map(_served, probes))


def _grouped(served: Iterable[tuple[Handler, Function]]) -> Groups:
    groups: dict[Handler, list[Function]] = {}
    for handler, function in served:
        groups.setdefault(handler, []).append(function)
    return MappingProxyType({handler: tuple(group) for handler, group in sorted(groups.items())})


def plan_tracepoints(tracepoints: tuple[Tracepoint, ...], follows: bool = False) -> AttachPlan:
    """The plan of the tracepoint backend, where every tracepoint has a program of its own.

    Args:
        tracepoints: of discover_tracepoints().
        follows: whether packets are tracked.
    """
    return AttachPlan(Backend.TRACEPOINT, tracepoints=tracepoints, follows=follows)
