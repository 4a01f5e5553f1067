"""Sets of u32 numbers; the oracle is Python's set, near both ends of the range of u32."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pypwru.filter import ranges

EDGE = 12
NUMBERS = [*range(EDGE), *range(ranges.MAX - EDGE + 1, ranges.MAX + 1)]
MIDDLE = (EDGE, ranges.MAX - EDGE)
"""All other numbers: a set has either all or none of them."""


@st.composite
def sets(draw: st.DrawFn) -> tuple[ranges.Ranges, set[int], bool]:
    """Draw ranges, which NUMBERS they have, and whether MIDDLE is."""
    numbers = draw(st.sets(st.sampled_from(NUMBERS)))
    has_middle = draw(st.booleans())
    found: ranges.Ranges = (MIDDLE,) if has_middle else ranges.NONE
    for number in numbers:
        found = ranges.unite(found, ranges.single(number))
    return found, numbers, has_middle


def members(found: ranges.Ranges) -> set[int]:
    assert list(found) == sorted(found)
    assert all(low <= high for low, high in found)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))
    return {number for number in NUMBERS if any(low <= number <= high for low, high in found)}


@given(sets(), sets())
def test_operations_equal_python_sets(
    one: tuple[ranges.Ranges, set[int], bool], other: tuple[ranges.Ranges, set[int], bool]
) -> None:
    assert members(one[0]) == one[1]
    assert members(ranges.invert(one[0])) == {*NUMBERS} - one[1]
    assert ranges.invert(ranges.invert(one[0])) == one[0]
    assert members(ranges.unite(one[0], other[0])) == one[1] | other[1]
    assert members(ranges.intersect(one[0], other[0])) == one[1] & other[1]
    middle = ranges.intersect(ranges.intersect(one[0], other[0]), (MIDDLE,))
    assert bool(middle) == (one[2] and other[2])


@given(st.sets(st.integers(0, ranges.MAX), max_size=6), st.integers(-ranges.MAX, ranges.MAX))
def test_shift_and_negate_wrap(numbers: set[int], distance: int) -> None:
    found: ranges.Ranges = ranges.NONE
    for number in numbers:
        found = ranges.unite(found, ranges.single(number))
    moved = ranges.shift(found, distance)
    turned = ranges.negate(found)
    for number in numbers:
        at, opposite = number + distance & ranges.MAX, -number & ranges.MAX
        assert ranges.intersect(moved, ranges.single(at))
        assert ranges.intersect(turned, ranges.single(opposite))
    assert sum(high - low + 1 for low, high in moved) == len(numbers)
    assert sum(high - low + 1 for low, high in turned) == len(numbers)
    assert ranges.shift(moved, -distance) == found
