"""One perf event a function: every kernel with CONFIG_KPROBES.

Both ways are slow in the kernel, which waits for RCU for each of them: batches go in parallel.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from pypwru.attach.attached import Attached
from pypwru.discovery.functions import Function
from pypwru.errors import KernelError
from pypwru.kernel.perf import kprobe_open, kprobe_pmu
from pypwru.log import Log, Progress
from pypwru.program.load import Loader

T = TypeVar("T")
Site = tuple[int, str, int]  # address, name, program
_THREADS = 16
_SPARE_DESCRIPTORS = 256


@contextmanager
def attached(
    groups: Mapping[tuple[int, int], Sequence[Function]],
    loader: Loader,
    log: Log,
    batch: int,
    stopping: Callable[[], bool],
) -> Iterator[Attached]:
    """Trace the functions until the way out.

    Args:
        groups: (position of the skb, position of the drop reason or 0) -> functions.
        batch: functions that one thread attaches in a row.
        stopping: asked before each batch; True leaves the rest unattached.
    """
    pmu = kprobe_pmu()
    if pmu is None:
        raise KernelError(
            "This kernel has no kprobes (CONFIG_KPROBES is off); try --backend tracepoint"
        )
    sites = [
        (address, function.display, loader.load(position, reason))
        for (position, reason), functions in groups.items()
        for function in functions
        for address in function.addresses
    ]
    _raise_limit(len(sites))
    report = Attached()
    opened: list[int] = []
    try:
        with log.progress(len(sites), "Attaching") as progress:
            run = _Batches(pmu, opened, report, progress, stopping)
            _in_threads(run.attach, sites, batch)
        yield report
        log.info("Detaching kprobes...")
    finally:
        with log.progress(len(opened), "Detaching") as progress:
            _in_threads(lambda fds: _close(fds, progress), opened, batch)


class _Batches:
    """Attaches batches; lists are appended to from several threads, which CPython does atomically."""

    def __init__(
        self,
        pmu: int,
        opened: list[int],
        report: Attached,
        progress: Progress,
        stopping: Callable[[], bool],
    ) -> None:
        self._pmu = pmu
        self._opened = opened
        self._report = report
        self._progress = progress
        self._stopping = stopping

    def attach(self, sites: Sequence[Site]) -> None:
        if self._stopping():
            return
        for address, name, program in sites:
            try:
                self._opened.append(kprobe_open(self._pmu, address, program))
            except OSError as error:
                self._report.ignored.append((name, os.strerror(error.errno or 0)))
            self._progress.advance()
        self._report.functions = len(self._opened)


def _close(fds: Sequence[int], progress: Progress) -> None:
    for fd in fds:
        os.close(fd)
        progress.advance()


def _in_threads(work: Callable[[Sequence[T]], None], items: Sequence[T], batch: int) -> None:
    """Run ``work`` on slices of ``items``; the first error is raised when all have ended."""
    slices = [items[start : start + batch] for start in range(0, len(items), batch)]
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(work, slices):
            pass


def _raise_limit(descriptors: int) -> None:
    """Every kprobe is a descriptor; a common soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            limit = wanted if hard == resource.RLIM_INFINITY else max(hard, wanted)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, limit))
        except (OSError, ValueError) as error:
            raise KernelError(
                f"Failed to raise the limit of open files to {wanted}: {error}; "
                "raise it (ulimit -n), or trace fewer functions (--priority, --filter-func)"
            ) from error
