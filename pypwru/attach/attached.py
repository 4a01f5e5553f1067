"""The report of an attachment: what is attached, and what the kernel refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Attached:
    """Targets of an attachment; the backends fill it while they attach.

    It is shared by reference: functions of modules and BPF programs that are attached later in the
    run are added to the same object.

    Attributes:
        functions: number of functions, tracepoints and BPF programs that are attached.
        names: address in a record, or number of a tracepoint or BPF program -> display name. The
            name resolvers hold this same dict.
        missed: callables; each returns the number of hits that the kernel has skipped so far at
            probes that are still attached.
        ignored: (display name, error) of each target that the kernel refused.
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
