"""What will be attached, as data: nothing here touches the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from pypwru.config import Backend
from pypwru.discovery.functions import Function
from pypwru.discovery.tracepoints import Tracepoint


class HandlerKey(NamedTuple):
    """What one compiled handler serves: where the packet and the reason are.

    Args:
        position: as of Function (from 1) or Tracepoint (from 0), by the plan's backend.
        reason: the same; 0 for a Function without one, None for such a Tracepoint.
    """

    position: int
    reason: int | None


Target = Function | Tracepoint


@dataclass(frozen=True)
class AttachPlan:
    """Everything that one session attaches.

    Args:
        backend: how.
        groups: handler -> what it is attached to, in the order of discovery.
        unattachable: (display, why) of what was asked for and can't be traced.
    """

    backend: Backend
    groups: Mapping[HandlerKey, tuple[Target, ...]]
    unattachable: tuple[tuple[str, str], ...] = ()

    @property
    def total(self) -> int:
        """How many functions or tracepoints."""
        return sum(map(len, self.groups.values()))

    @property
    def addresses(self) -> int:
        """How many addresses those functions have; 0 for tracepoints."""
        return sum(
            len(target.addresses)
            for targets in self.groups.values()
            for target in targets
            if isinstance(target, Function)
        )

    def by_position(self) -> dict[int, int]:
        """Position -> how many, ascending."""
        counts: Counter[int] = Counter()
        for key, targets in self.groups.items():
            counts[key.position] += len(targets)
        return dict(sorted(counts.items()))

    def by_category(self) -> dict[str, int]:
        """Category -> how many, the largest first."""
        targets = (target for targets in self.groups.values() for target in targets)
        return dict(Counter(target.category for target in targets).most_common())


def make_plan(
    backend: Backend,
    targets: Iterable[Target],
    unattachable: Iterable[tuple[str, str]] = (),
) -> AttachPlan:
    """Group what was discovered by the handler that serves it.

    Args:
        backend: how it will be attached.
        targets: functions, or tracepoints for that backend.
        unattachable: (display, why), for the summary.
    """
    groups: dict[HandlerKey, list[Target]] = {}
    for target in targets:
        groups.setdefault(HandlerKey(target.position, target.reason), []).append(target)
    frozen = {key: tuple(group) for key, group in sorted(groups.items(), key=_order)}
    return AttachPlan(backend, MappingProxyType(frozen), tuple(unattachable))


def _order(group: tuple[HandlerKey, list[Target]]) -> tuple[int, int]:
    key = group[0]
    return key.position, -1 if key.reason is None else key.reason
