"""Assigns jobs to guests, and orders the guests: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from tests.lab.kernels import Tier
from tests.lab.suites import SUITES

_BOOT = 30  # seconds until a guest runs its first job, and what lies between two jobs
_MAX_SECONDS = {Tier.QUICK: 3600, Tier.FULL: 600}  # seconds of a guest that jobs are added to


class Boot(NamedTuple):
    """One guest.

    Args:
        kernel: its name.
        suites: the suites whose jobs run in it, in this order.
    """

    kernel: str
    suites: tuple[str, ...]

    def seconds(self, tier: Tier) -> int:
        """Return its expected duration."""
        return _BOOT + sum(estimate(name, tier) for name in self.suites)

    def __str__(self) -> str:
        return f"{self.kernel} {' '.join(self.suites)}"


def estimate(suite: str, tier: Tier) -> int:
    """Return the expected seconds of the suite's job."""
    quick, full = SUITES[suite].seconds
    return quick if tier is Tier.QUICK else full


def boots(needed: Iterable[tuple[str, str]], tier: Tier) -> list[Boot]:
    """Return the guests for these (kernel, suite), the longest first.

    The full tier's are no longer than some minutes, so that two at a time end together.
    """
    kernels: dict[str, set[str]] = {}
    for kernel, suite in needed:
        kernels.setdefault(kernel, set()).add(suite)
    found = [Boot(kernel, group) for kernel in kernels for group in _groups(kernels[kernel], tier)]
    return sorted(found, key=lambda boot: (-boot.seconds(tier), boot))


def _groups(suites: Collection[str], tier: Tier) -> list[tuple[str, ...]]:
    """Group the suites of one kernel: those that must be first, then the longest."""
    groups: list[list[str]] = []
    for suite in sorted(suites, key=lambda name: (not SUITES[name].first, -estimate(name, tier))):
        for group in groups:
            if _fits(suite, group, tier):
                group.append(suite)
                break
        else:
            groups.append([suite])
    return [tuple(group) for group in groups]


def _fits(suite: str, group: list[str], tier: Tier) -> bool:
    """Return whether ``suite`` may run after those of the group."""
    if SUITES[suite].first or any(SUITES[one].alone for one in (suite, *group)):
        return False
    return sum(estimate(one, tier) for one in (suite, *group)) <= _MAX_SECONDS[tier]
