"""A memo computes each result once, forgets all at its bound, and remembers no error."""

from __future__ import annotations

import pytest

from pypwru.bounded_memo import BoundedMemo


def test_a_result_is_computed_once() -> None:
    computed: list[int] = []

    def double(number: int) -> int:
        computed.append(number)
        return 2 * number

    memo = BoundedMemo(double, 8)
    assert [memo[1], memo[2], memo[1], *map(memo.__getitem__, (2, 3))] == [2, 4, 2, 4, 6]
    assert computed == [1, 2, 3]


@pytest.mark.parametrize("bound", [1, 2, 5])
def test_it_is_emptied_at_its_bound(bound: int) -> None:
    memo = BoundedMemo(str, bound)
    for number in range(3 * bound):
        assert memo[number] == str(number)
        assert len(memo) == number % bound + 1


def test_an_error_is_not_remembered() -> None:
    memo = BoundedMemo(int, 1)
    assert memo["7"] == 7
    with pytest.raises(ValueError, match="'x'"):
        memo["x"]
    assert memo == {"7": 7}


def test_the_function_may_empty_the_memo() -> None:
    """So does the printer, when a column grows while a text is rendered."""

    def forget_others(number: int) -> int:
        memo.clear()
        return number

    memo = BoundedMemo(forget_others, 8)
    assert (memo[1], memo[2]) == (1, 2)
    assert memo == {2: 2}
