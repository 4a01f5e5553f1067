"""A task's pid and name to the program that it runs, from /proc."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEPT = 4096
_RECHECK_SECONDS = 1.0
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h


def has_kernel_pids(proc: str = "/proc") -> bool:
    """Whether procfs has the pids of the initial PID namespace, which records have.

    That of a container mostly has others. Of pid 1 where we may see its namespace, since procfs can
    be another namespace's than ours.

    Args:
        proc: where procfs is mounted.
    """
    for process in ("1", "self"):
        try:
            return os.stat(f"{proc}/{process}/ns/pid").st_ino == _INITIAL_PID_NAMESPACE
        except OSError:
            continue
    return True  # no CONFIG_PID_NS


class _Program(NamedTuple):
    checked: float  # seconds, of the monotonic clock
    path: str


class Processes:
    """Paths of programs, looked up once a second at most for each pid and name of a task.

    execve() and an exit change what a pid stands for, and both change the task's name unless the
    same program comes again: so a path is that of the task only while the process has a thread of
    this name. It outlives its process, because the last packets of a process come after it.

    Args:
        proc: where procfs is mounted.
        monotonic: seconds.
    """

    def __init__(
        self, proc: str = "/proc", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._monotonic = monotonic
        self._kept: dict[tuple[int, str], _Program] = {}

    def path(self, pid: int, comm: str) -> str:
        """The program of a task, all links resolved; its name where it has no file that we can see
        (a kernel thread, a deleted file, another mount namespace); empty where the process had
        ended, or ran something else, when it was first looked up.

        Args:
            pid: thread group, 0 for the idle task, which has no entry in /proc.
            comm: the task's name in the kernel; that of a thread may be another than its process's.
        """
        now = self._monotonic()
        known = self._kept.get((pid, comm))
        if known is not None and now - known.checked < _RECHECK_SECONDS:
            return known.path
        before = {comm: known.path if known else ""}
        for name, path in (before | self._programs(pid, comm)).items():
            self._keep((pid, name), _Program(now, path))
        return self._kept[pid, comm].path

    def _programs(self, pid: int, comm: str) -> dict[str, str]:
        try:
            process = os.open(f"{self._proc}/{pid}", os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return {}
        with owned(process):  # stays this process's when the pid is given again
            try:
                return _programs(process, comm)
            except OSError:  # it ended
                return {}

    def _keep(self, task: tuple[int, str], program: _Program) -> None:
        if task not in self._kept and len(self._kept) >= _KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[task] = program


def _programs(process: int, comm: str) -> dict[str, str]:
    """Name of a thread -> the program, of those that were looked at; empty if none is ``comm``'s.

    Args:
        process: descriptor of its folder in /proc.
    """
    program, main = _executable(process), _comm(process, "comm")
    if not program:
        # A worker's name has what it works on behind it (wq_worker_comm() of kernel/workqueue.c).
        is_same = main == comm or main.startswith((f"{comm}-", f"{comm}+"))
        return {comm: main} if is_same else {}
    names = {main} if main == comm else set(_threads(process))
    has_changed = _executable(process) != program  # execve() came between
    return {} if has_changed else dict.fromkeys(names, program)


def _executable(process: int) -> str:
    try:
        return os.path.realpath(os.readlink("exe", dir_fd=process), strict=True)
    except OSError:
        return ""


def _comm(process: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), "rb") as file:
        return os.fsdecode(file.read()[:-1])  # without the line's end: any byte may be in a name


def _threads(process: int) -> Iterator[str]:
    with owned(os.open("task", os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)) as task:
        for thread in os.listdir(task):
            with suppress(OSError):  # it ended
                yield _comm(task, f"{thread}/comm")
