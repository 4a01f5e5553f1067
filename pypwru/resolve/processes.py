"""Pid to the program that it runs, from /proc."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = 4096
_RECHECK_SECONDS = 1.0


class _Process(NamedTuple):
    checked: float  # seconds, of the monotonic clock
    identity: tuple[bytes, str] | None  # start time and executable; None: it was not there
    path: str


class Processes:
    """Paths of programs, looked up once a second at most for each pid.

    A path outlives its process, because the last packets of a process come after it. A pid that was
    given to another process, or a process that called execve, is noticed at the next look-up.

    Args:
        proc: where procfs is mounted.
        monotonic: seconds.
    """

    def __init__(
        self, proc: str = "/proc", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._monotonic = monotonic
        self._kept: dict[int, _Process] = {}

    def path(self, pid: int) -> str:
        """The program of ``pid``, all links resolved; its comm where it has no file that we can see
        (a kernel thread, a deleted file, another mount namespace); empty without such a process.

        Args:
            pid: thread group, 0 for the idle task, which has no entry in /proc.
        """
        now = self._monotonic()
        known = self._kept.get(pid)
        if known is not None and now - known.checked < _RECHECK_SECONDS:
            return known.path
        identity = self._identity(pid)
        if known is not None and identity in (None, known.identity):
            path = known.path
        else:
            path = self._look_up(pid) if identity else ""
        if known is None and len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[pid] = _Process(now, identity or (known and known.identity), path)
        return path

    def _stat(self, pid: int) -> tuple[bytes, bytes] | None:
        """comm and start time (field 22) of /proc/PID/stat; comm may have any byte, ``)`` too."""
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                line = file.read()
        except OSError:
            return None
        head, _, rest = line.rpartition(b")")
        return head.partition(b"(")[2], rest.split()[19]

    def _identity(self, pid: int) -> tuple[bytes, str] | None:
        stat = self._stat(pid)
        if stat is None:
            return None
        try:
            return stat[1], os.readlink(f"{self._proc}/{pid}/exe")
        except OSError:
            return stat[1], ""

    def _look_up(self, pid: int) -> str:
        try:
            return os.path.realpath(f"{self._proc}/{pid}/exe", strict=True)
        except OSError:
            stat = self._stat(pid)
            return os.fsdecode(stat[0]) if stat else ""
