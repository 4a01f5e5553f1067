"""How long packets took: all of them up to a number, a fair sample of them beyond."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KEPT = 1 << 20
"""Times that are kept; beyond, each of all has the same chance to be among them."""


class Latency(NamedTuple):
    """Times, ns.

    Args:
        packets: how many there were.
        p50, p90, p99: by nearest rank.
        max: of all.
        exact: whether the ranks are of all, not of a sample.
    """

    packets: int
    p50: int
    p90: int
    p99: int
    max: int
    exact: bool


def nearest_rank(ordered: Sequence[int], percent: int) -> int:
    """The smallest value that is not exceeded by ``percent`` of them.

    Args:
        ordered: ascending, not empty.
    """
    return ordered[-(-len(ordered) * percent // 100) - 1]


class Latencies:
    """Keeps times: a reservoir (Vitter's algorithm R).

    Args:
        kept: how many at most.
        below: a random number below its argument.
    """

    def __init__(self, kept: int = KEPT, below: Callable[[int], int] = random.randrange) -> None:
        self._kept = kept
        self._below = below
        self._times = array("Q")
        self._count = 0
        self._max = 0

    def add(self, nanoseconds: int) -> None:
        """One packet more."""
        self._count += 1
        self._max = max(self._max, nanoseconds)
        if len(self._times) < self._kept:
            self._times.append(nanoseconds)
            return
        place = self._below(self._count)
        if place < self._kept:
            self._times[place] = nanoseconds

    def with_more(self, more: Iterable[int]) -> Latency | None:
        """The ranks of these and ``more``, which aren't kept; None without any."""
        all_of_them = Latencies(self._kept, self._below)
        all_of_them._times, all_of_them._count = self._times[:], self._count
        all_of_them._max = self._max
        for nanoseconds in more:
            all_of_them.add(nanoseconds)
        return all_of_them.ranks()

    def ranks(self) -> Latency | None:
        """None without any."""
        if not self._count:
            return None
        ordered = sorted(self._times)
        p50, p90, p99 = (nearest_rank(ordered, percent) for percent in (50, 90, 99))
        return Latency(self._count, p50, p90, p99, self._max, self._count <= self._kept)
