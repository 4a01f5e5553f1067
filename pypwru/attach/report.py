"""The report of an attachment: what is attached, and what the kernel refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.discovery.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Callable


class AttachReport:
    """What an attachment came to; the backends fill it while they attach.

    Functions of modules and BPF programs that are attached later in the run are added, too.

    Attributes:
        target_count: number of functions, tracepoints and BPF programs that are attached.
        targets: those of the run.
        missed_counters: callables; each returns the number of hits that the kernel has skipped so
            far at probes that are still attached.
        ignored: (display name, error) of each target that the kernel refused.
    """

    def __init__(
        self,
        target_count: int = 0,
        targets: Targets | None = None,
        missed_counters: list[Callable[[], int]] | None = None,
        ignored: list[tuple[str, str]] | None = None,
    ) -> None:
        self.target_count = target_count
        self.targets = Targets() if targets is None else targets
        self.missed_counters = [] if missed_counters is None else missed_counters
        self.ignored = [] if ignored is None else ignored
