"""What an attachment reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Attached:
    """Grows while attaching.

    Attributes:
        functions: how many are traced.
        names: the address that a record carries -> the function's name.
        missed: each tells how many hits the kernel skipped so far, of probes that are still there.
        ignored: (name, why) of those that the kernel refused.
    """

    def __init__(
        self,
        functions: int = 0,
        names: dict[int, str] | None = None,
        missed: list[Callable[[], int]] | None = None,
        ignored: list[tuple[str, str]] | None = None,
    ) -> None:
        self.functions = functions
        self.names = {} if names is None else names
        self.missed = [] if missed is None else missed
        self.ignored = [] if ignored is None else ignored
