"""Which functions were asked for: --filter-func, --priority, --category."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from pypwru.discovery import tables
from pypwru.discovery.re2 import whole_name_matcher
from pypwru.errors import UsageError


@dataclass(frozen=True)
class Selection:
    """What to trace, by name.

    Args:
        filter_func: Go (RE2) expression that must match the whole name; '' for every name.
        priority: the highest level that is traced, 0 to 3.
        categories: these only; empty for all.

    Raises:
        UsageError: no such level or category.
        FilterError: ``filter_func`` is not a regular expression.
    """

    filter_func: str = ""
    priority: int = tables.EVERYTHING
    categories: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= tables.EVERYTHING:
            raise UsageError(
                f"--priority {self.priority}: there is no such level; take 0 (fewest functions) "
                f"to {tables.EVERYTHING} (all)"
            )
        known = tables.categories()
        for unknown in sorted(self.categories.difference(known)):
            raise UsageError(
                f"--category {unknown}: there is no such category; take one of {', '.join(known)}"
            )
        self.named("")

    @cached_property
    def named(self) -> Callable[[str], bool]:
        """Whether a name passes ``filter_func``."""
        return whole_name_matcher(self.filter_func)

    def wants(self, category: str, priority: int) -> bool:
        """Whether something of this category and priority is traced."""
        return priority <= self.priority and (not self.categories or category in self.categories)
