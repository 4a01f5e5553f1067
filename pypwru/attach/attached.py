"""What an attachment reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Attached:
    """Grows while attaching.

    Args:
        functions: how many are traced.
        names: the address that a record carries -> the function's name.
        missed: each tells how many hits the kernel skipped so far, of probes that are still there.
        ignored: (name, why) of those that the kernel refused.
    """

    functions: int = 0
    names: dict[int, str] = field(default_factory=dict)
    missed: list[Callable[[], int]] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)
