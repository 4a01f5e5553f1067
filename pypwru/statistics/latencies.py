"""Latencies of packets: all up to a number, a uniform sample beyond."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

RESERVOIR_SIZE = 1 << 20
"""Size of the reservoir: beyond, each latency is in it with the same probability."""


class Latency(NamedTuple):
    """Percentiles of latencies, ns.

    Args:
        packets: number of packets.
        p50, p90, p99: nearest ranks.
        max: of all packets.
        is_exact: the percentiles are of all packets, not of a sample.
    """

    packets: int
    p50: int
    p90: int
    p99: int
    max: int
    is_exact: bool


def nearest_rank(ordered: Sequence[int], percent: int) -> int:
    """Return a percentile by the nearest-rank method.

    It is the smallest value such that at least ``percent`` % of the values are not greater.

    Args:
        ordered: ascending, not empty.
        percent: 1 to 100.
    """
    return ordered[-(-len(ordered) * percent // 100) - 1]


class LatencyReservoir:
    """A reservoir of latencies (Vitter's algorithm R).

    Args:
        size: size of the reservoir.
        random_below: returns a random integer in [0, argument).
    """

    def __init__(
        self, size: int = RESERVOIR_SIZE, random_below: Callable[[int], int] = random.randrange
    ) -> None:
        self._size = size
        self._random_below = random_below
        self._times = array("Q")
        self._count = 0
        self._max = 0

    def add(self, nanoseconds: int) -> None:
        """Add the latency of one packet, ns."""
        self._count += 1
        self._max = max(self._max, nanoseconds)
        if len(self._times) < self._size:
            self._times.append(nanoseconds)
            return
        index = self._random_below(self._count)
        if index < self._size:
            self._times[index] = nanoseconds

    def percentiles_with(self, others: Iterable[int]) -> Latency | None:
        """Return the percentiles of these and ``others``, which aren't added; None without any."""
        merged = LatencyReservoir(self._size, self._random_below)
        merged._times, merged._count = self._times[:], self._count
        merged._max = self._max
        for nanoseconds in others:
            merged.add(nanoseconds)
        return merged.percentiles()

    def percentiles(self) -> Latency | None:
        """Return the percentiles; None without latencies."""
        if not self._count:
            return None
        ordered = sorted(self._times)
        p50, p90, p99 = (nearest_rank(ordered, percent) for percent in (50, 90, 99))
        return Latency(self._count, p50, p90, p99, self._max, self._count <= self._size)
