"""The results of a function by its argument, as a dictionary of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")


class BoundedMemo(dict[_KeyT, _ValueT]):
    """Results of a function: ``memo[key]`` computes a missing one; a full memo is emptied first.

    Unlike ``functools.lru_cache`` a hit is a look-up in a dictionary, without a call and without
    bookkeeping: values that repeat are back soon after the memo was emptied.

    Args:
        compute: the function. An error that it raises is not remembered. It may empty the memo:
            its result is stored afterwards.
        max_size: maximum number of results, at least 1.
    """

    __slots__ = ("_compute", "_max_size")

    def __init__(self, compute: Callable[[_KeyT], _ValueT], max_size: int) -> None:
        super().__init__()
        self._compute = compute
        self._max_size = max_size

    def __missing__(self, key: _KeyT) -> _ValueT:
        value = self._compute(key)
        if len(self) >= self._max_size:
            self.clear()
        self[key] = value
        return value
