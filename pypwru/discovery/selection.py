"""Select functions and tracepoints: --filter-func, --priority, --category, --functions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.discovery import function_tables
from pypwru.discovery.skb_lifetime import REASON_FUNCTIONS
from pypwru.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class _SelectionFields(NamedTuple):
    filter_func: str = ""
    priority: int = function_tables.MAX_PRIORITY
    categories: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    implicit: frozenset[str] = frozenset()


class Selection(_SelectionFields):
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
            """Make a Selection; raise UsageError or FilterError if it is not valid."""
            selection = super().__new__(cls, *values, **named)
            _validate(selection)
            return selection

    @cached_property
    def name_matches(self) -> Callable[[str], bool]:
        """Predicate: whether a name matches ``filter_func``."""
        if not self.filter_func:
            return lambda name: True
        from pypwru.regexp.re2 import compile_whole_name

        return compile_whole_name(self.filter_func)

    def is_listed(self, display: str) -> bool:
        """Return whether a display name is in the list of --functions, or there is none."""
        return self.only is None or display in self.only

    @property
    def has_only_tracepoints(self) -> bool:
        """Whether --functions lists tracepoints only."""
        return self.only is not None and all(map(is_tracepoint, self.only))

    def is_implicit(self, name: str, has_reason: bool) -> bool:
        """Return whether ``name`` is traced in any case.

        Args:
            name: of a function, or the display name of a tracepoint.
            has_reason: whether it has a drop reason among its arguments.
        """
        return name in self.implicit and (has_reason or name not in REASON_FUNCTIONS)

    def matches(self, name: str, display: str, category: str, priority: int) -> bool:
        """Return whether the flags select a function or tracepoint.

        Args:
            name: matched by ``filter_func``.
            display: looked up in ``only``.
            category: one of function_tables.categories().
            priority: 0 to 3.
        """
        return (
            self.name_matches(name)
            and self.is_listed(display)
            and self.matches_level(category, priority)
        )

    def matches_level(self, category: str, priority: int) -> bool:
        """Return whether --category and --priority select this."""
        return priority <= self.priority and (not self.categories or category in self.categories)


def _validate(selection: Selection) -> None:
    """Raise UsageError or FilterError for a selection that is not valid."""
    if not 0 <= selection.priority <= function_tables.MAX_PRIORITY:
        raise UsageError(
            f"--priority {selection.priority}: there is no such level",
            f"take 0 (fewest functions) to {function_tables.MAX_PRIORITY} (all)",
        )
    valid = function_tables.categories() if selection.categories else ()
    for unknown in sorted(selection.categories.difference(valid)):
        from pypwru.suggestions import did_you_mean

        raise UsageError(
            f"--category {unknown}: there is no such category",
            f"take one of {', '.join(valid)}{did_you_mean(unknown, valid)}",
        )
    selection.name_matches("")


TRACEPOINT_PREFIX = "tp:"
"""Prefix of a tracepoint's display name: it may have the name of a function."""


def is_tracepoint(display: str) -> bool:
    """Return whether a display name is that of a raw tracepoint."""
    return display.startswith(TRACEPOINT_PREFIX)
