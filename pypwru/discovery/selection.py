"""Select functions and tracepoints: --filter-func, --priority, --category, --functions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.discovery import tables
from pypwru.discovery.lifetime import BY_REASON
from pypwru.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class _Fields(NamedTuple):
    filter_func: str = ""
    priority: int = tables.EVERYTHING
    categories: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    also: frozenset[str] = frozenset()


class Selection(_Fields):
    """The criteria for what is traced.

    Args:
        filter_func: Go (RE2) expression that must match the whole name; '' matches every name.
        priority: the largest number that is traced, 0 (fewest functions) to 3 (all).
        categories: only these; empty for all.
        only: display names ``name``, ``name[module]``, ``tp:name``; nothing else is traced. None:
            no such list.
        also: names, without modules, that are traced in any case: they report how packets end.

    Raises:
        UsageError: unknown priority or category.
        FilterError: ``filter_func`` is not a regular expression.
    """

    if not TYPE_CHECKING:  # for the type checker, the constructor is that of the fields

        def __new__(cls, *values: Any, **named: Any) -> Selection:
            selection = super().__new__(cls, *values, **named)
            _check(selection)
            return selection

    @cached_property
    def named(self) -> Callable[[str], bool]:
        """Predicate: whether a name matches ``filter_func``."""
        if not self.filter_func:
            return lambda name: True
        from pypwru.discovery.re2 import whole_name_matcher

        return whole_name_matcher(self.filter_func)

    def lists(self, display: str) -> bool:
        """Return whether a display name is in the list of --functions, or there is none."""
        return self.only is None or display in self.only

    @property
    def is_of_tracepoints(self) -> bool:
        """Whether --functions lists tracepoints only."""
        return self.only is not None and all(map(is_tracepoint, self.only))

    def tells(self, name: str, reason: bool) -> bool:
        """Return whether ``name`` is traced in any case.

        Args:
            name: of a function, or the display name of a tracepoint.
            reason: whether it has a drop reason among its arguments.
        """
        return name in self.also and (reason or name not in BY_REASON)

    def asks(self, name: str, display: str, category: str, priority: int) -> bool:
        """Return whether the flags select a function or tracepoint.

        Args:
            name: matched by ``filter_func``.
            display: looked up in ``only``.
            category: one of tables.categories().
            priority: 0 to 3.
        """
        return self.named(name) and self.lists(display) and self.wants(category, priority)

    def wants(self, category: str, priority: int) -> bool:
        """Return whether --category and --priority select this."""
        return priority <= self.priority and (not self.categories or category in self.categories)


def _check(selection: Selection) -> None:
    """Raise UsageError or FilterError for a selection that is not valid."""
    if not 0 <= selection.priority <= tables.EVERYTHING:
        raise UsageError(
            f"--priority {selection.priority}: there is no such level; take 0 (fewest functions) "
            f"to {tables.EVERYTHING} (all)"
        )
    known = tables.categories() if selection.categories else ()
    for unknown in sorted(selection.categories.difference(known)):
        from pypwru.suggestions import did_you_mean

        raise UsageError(
            f"--category {unknown}: there is no such category; take one of {', '.join(known)}"
            f"{did_you_mean(unknown, known)}"
        )
    selection.named("")


TRACEPOINT = "tp:"
"""Prefix of a tracepoint's display name: it may have the name of a function."""


def is_tracepoint(display: str) -> bool:
    """Return whether a display name is that of a raw tracepoint."""
    return display.startswith(TRACEPOINT)
