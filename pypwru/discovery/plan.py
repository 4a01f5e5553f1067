"""What will be attached, as data: nothing here touches the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

from pypwru.config import Backend
from pypwru.discovery.functions import Discovery, Function
from pypwru.discovery.tracepoints import Tracepoint

Handler = tuple[int, int]
"""What one compiled handler serves: registers of the packet and of the reason (0 for none)."""


@dataclass(frozen=True)
class AttachPlan:
    """Everything that one session attaches.

    Args:
        backend: how.
        groups: handler -> the functions that it is attached to, in the order of discovery.
        tracepoints: for the tracepoint backend, which has no functions.
        unattachable: (display, why) of what was asked for and can't be traced.
    """

    backend: Backend
    groups: Mapping[Handler, tuple[Function, ...]] = field(default_factory=dict)
    tracepoints: tuple[Tracepoint, ...] = ()
    unattachable: tuple[tuple[str, str], ...] = ()

    @property
    def functions(self) -> tuple[Function, ...]:
        """Those of all groups."""
        return tuple(chain.from_iterable(self.groups.values()))

    @property
    def total(self) -> int:
        """How many functions or tracepoints."""
        return len(self.functions) + len(self.tracepoints)

    @property
    def addresses(self) -> int:
        """How many addresses the functions have; 0 for tracepoints."""
        return sum(len(function.addresses) for function in self.functions)

    def by_position(self) -> dict[int, int]:
        """Position of the packet -> how many, ascending."""
        return dict(sorted(Counter(target.position for target in self._targets()).items()))

    def by_category(self) -> dict[str, int]:
        """Category -> how many, the largest first."""
        return dict(Counter(target.category for target in self._targets()).most_common())

    def by_priority(self) -> dict[int, int]:
        """Level -> how many have it, ascending."""
        return dict(sorted(Counter(target.priority for target in self._targets()).items()))

    def _targets(self) -> Iterable[Function | Tracepoint]:
        return chain(self.functions, self.tracepoints)


def plan_functions(backend: Backend, discovery: Discovery) -> AttachPlan:
    """Group what was discovered by the handler that serves it.

    Args:
        backend: kprobe-multi or kprobe.
        discovery: of discover_functions().
    """
    groups: dict[Handler, list[Function]] = {}
    for function in discovery.functions:
        groups.setdefault((function.position, function.reason), []).append(function)
    frozen = {handler: tuple(group) for handler, group in sorted(groups.items())}
    return AttachPlan(backend, MappingProxyType(frozen), unattachable=discovery.unattachable)


def plan_tracepoints(tracepoints: tuple[Tracepoint, ...]) -> AttachPlan:
    """The plan of the tracepoint backend, where every tracepoint has a handler of its own.

    Args:
        tracepoints: of discover_tracepoints().
    """
    return AttachPlan(Backend.TRACEPOINT, tracepoints=tracepoints)
