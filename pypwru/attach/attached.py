"""What an attachment reports."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Attached:
    """Grows while attaching.

    Args:
        functions: how many are traced.
        ignored: (name, why) of those that the kernel refused.
    """

    functions: int = 0
    ignored: list[tuple[str, str]] = field(default_factory=list)
