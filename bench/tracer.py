"""Run and measure commands and tracers. A tracer has started when its ready file exists."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the clock of all threads of a process, in ns
_IN_CREATE, _IN_MOVED_TO = 0x100, 0x80  # linux/inotify.h


class NotReady(SystemExit):
    """The tracer exited before it was ready; ends the bench program unless it is caught."""


class Cost(NamedTuple):
    """Time that a command took.

    Args:
        wall: seconds since exec.
        cpu: seconds of user and system time of the process.
    """

    wall: float
    cpu: float


class Tracer(NamedTuple):
    """A tracer that has attached.

    Args:
        process: of the tracer.
        start: time from exec to the ready file.
        log: file with its standard error.
    """

    process: subprocess.Popen[bytes]
    start: Cost
    log: Path

    def stop(self) -> float:
        """Stop the tracer and return the seconds from SIGINT to its exit."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        return time.monotonic() - begin


def run(command: Sequence[str]) -> Cost:
    """Run a command to its end.

    Raises:
        SystemExit: it failed.
    """
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


@contextmanager
def run_tracer(command: Sequence[str]) -> Iterator[Tracer]:
    """Start a tracer, wait until it is ready, and stop it at the exit of the context.

    Args:
        command: of the tracer, without --ready-file.

    Raises:
        NotReady: it exited before it was ready.
    """
    with tempfile.TemporaryDirectory() as ready, tempfile.TemporaryDirectory() as logs:
        file, log = Path(ready, "ready"), Path(logs, "log")
        created = _watch_folder(ready)
        try:
            words = [*command, "--ready-file", str(file)]
            begin = time.monotonic()
            with (
                log.open("wb") as err,
                subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=err) as process,
            ):
                _wait_created(file, created, process)
                wall = time.monotonic() - begin
                if not file.exists():
                    last = log.read_text().strip().rpartition("\n")[2]
                    raise NotReady(f"{' '.join(command)} was never ready: {last}")
                cpu = time.clock_gettime(~process.pid << 3 | _CPUCLOCK_SCHED)
                tracer = Tracer(process, Cost(wall, cpu), log)
                try:
                    yield tracer
                finally:
                    if process.poll() is None:
                        tracer.stop()
        finally:
            os.close(created)


def _watch_folder(folder: str) -> int:
    """Return a descriptor that becomes readable when a file is made in ``folder``."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    if libc.inotify_add_watch(fd, os.fsencode(folder), _IN_CREATE | _IN_MOVED_TO) < 0:
        os.close(fd)
        raise OSError(ctypes.get_errno(), "inotify_add_watch")
    return fd


def _wait_created(file: Path, created: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until ``file`` exists or ``process`` has exited, without polling, which takes CPU.

    Args:
        file: in the watched folder.
        created: descriptor of ``_watch_folder``.
        process: makes the file.
    """
    ended = os.pidfd_open(process.pid)
    try:
        while not file.exists():
            readable, _, _ = select.select([created, ended], [], [])
            if ended in readable:
                process.wait()
                return
            os.read(created, 4096)
    finally:
        os.close(ended)
