"""The report of an attachment: what is attached, and what the kernel refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class AttachReport:
    """Targets of an attachment; the backends fill it while they attach.

    It is shared by reference: functions of modules and BPF programs that are attached later in the
    run are added to the same object.

    Attributes:
        target_count: number of functions, tracepoints and BPF programs that are attached.
        targets: address in a record, or number of a tracepoint or BPF program -> display name. The
            name resolvers hold this same dict.
        missed_counters: callables; each returns the number of hits that the kernel has skipped so
            far at probes that are still attached.
        ignored: (display name, error) of each target that the kernel refused.
    """

    def __init__(
        self,
        target_count: int = 0,
        targets: dict[int, str] | None = None,
        missed_counters: list[Callable[[], int]] | None = None,
        ignored: list[tuple[str, str]] | None = None,
    ) -> None:
        self.target_count = target_count
        self.targets = {} if targets is None else targets
        self.missed_counters = [] if missed_counters is None else missed_counters
        self.ignored = [] if ignored is None else ignored
