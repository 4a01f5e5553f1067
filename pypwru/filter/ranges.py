"""Sets of u32 numbers: the possible values of an operand, and those that a branch tests for."""

from __future__ import annotations

MAX = 0xFFFFFFFF

Ranges = tuple[tuple[int, int], ...]
"""Disjoint [low, high], ascending, with a gap between any two."""

NONE: Ranges = ()
FULL: Ranges = ((0, MAX),)


def single(number: int) -> Ranges:
    """Return the set of ``number`` alone."""
    return ((number, number),)


def invert(ranges: Ranges) -> Ranges:
    """Return the complement of ``ranges``."""
    found, low = [], 0
    for start, end in ranges:
        if low < start:
            found.append((low, start - 1))
        low = end + 1
    return tuple(found) if low > MAX else (*found, (low, MAX))


def intersect(one: Ranges, other: Ranges) -> Ranges:
    """Return the intersection of both sets."""
    found = [
        (max(low, start), min(high, end))
        for low, high in one
        for start, end in other
        if start <= high and low <= end
    ]
    return tuple(found)


def unite(one: Ranges, other: Ranges) -> Ranges:
    """Return the union of both sets."""
    found: list[tuple[int, int]] = []
    for low, high in sorted((*one, *other)):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def shift(ranges: Ranges, distance: int) -> Ranges:
    """Return the set of each number plus ``distance``, modulo 2**32."""
    moved: Ranges = NONE
    for start, end in ranges:
        low, high = start + distance & MAX, end + distance & MAX
        moved = unite(moved, ((low, high),) if low <= high else ((0, high), (low, MAX)))
    return moved


def negate(ranges: Ranges) -> Ranges:
    """Return the set of 0 minus each number, modulo 2**32."""
    moved: Ranges = NONE
    for start, end in ranges:
        low, high = -end & MAX, -start & MAX
        moved = unite(moved, ((low, high),) if low <= high else ((0, high), (low, MAX)))
    return moved
