"""Which functions were asked for: --filter-func, --priority, --category, --functions."""

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
    """What to trace, by name.

    Args:
        filter_func: Go (RE2) expression that must match the whole name; '' for every name.
        priority: the highest level that is traced, 0 to 3.
        categories: these only; empty for all.
        only: ``name``, ``name[module]``, ``tp:name``: nothing else; None for everything.
        also: names of what is traced, too, whatever is asked for; without modules.

    Raises:
        UsageError: no such level or category.
        FilterError: ``filter_func`` is not a regular expression.
    """

    if not TYPE_CHECKING:  # for the type checker, the constructor is that of the fields

        def __new__(cls, *values: Any, **named: Any) -> Selection:
            selection = super().__new__(cls, *values, **named)
            _check(selection)
            return selection

    @cached_property
    def named(self) -> Callable[[str], bool]:
        """Whether a name passes ``filter_func``."""
        if not self.filter_func:
            return lambda name: True
        from pypwru.discovery.re2 import whole_name_matcher

        return whole_name_matcher(self.filter_func)

    def lists(self, display: str) -> bool:
        """Whether a display is among those that alone are traced."""
        return self.only is None or display in self.only

    @property
    def is_of_tracepoints(self) -> bool:
        """Whether nothing but tracepoints is listed."""
        return self.only is not None and all(map(is_tracepoint, self.only))

    def tells(self, name: str, reason: bool) -> bool:
        """Whether ``name`` is traced whatever else was asked for.

        Args:
            reason: whether it has a drop reason among its arguments.
        """
        return name in self.also and (reason or name not in BY_REASON)

    def asks(self, name: str, display: str, category: str, priority: int) -> bool:
        """Whether that is asked for, all in all."""
        return self.named(name) and self.lists(display) and self.wants(category, priority)

    def wants(self, category: str, priority: int) -> bool:
        """Whether something of this category and priority is traced."""
        return priority <= self.priority and (not self.categories or category in self.categories)


def _check(selection: Selection) -> None:
    """Raise UsageError or FilterError for what can't be selected by."""
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
"""Before the name of a tracepoint, which is in no namespace with functions."""


def is_tracepoint(display: str) -> bool:
    """Whether it names a raw tracepoint, and no function."""
    return display.startswith(TRACEPOINT)
