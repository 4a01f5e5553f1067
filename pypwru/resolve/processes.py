"""A task's pid and name to the program that it runs, from /proc."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.events.record import constants
from pypwru.kernel.descriptors import owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Key = TypeVar("Key")
Value = TypeVar("Value")

NO_STACK_BIT = constants()["NO_STACK_BIT"]
_TIME = (1 << NO_STACK_BIT) - 1
_TICK = 10_000_000  # ns; USER_HZ of include/asm-generic/param.h is 100
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


class _Found(NamedTuple):
    """What /proc has of a process.

    Args:
        programs: name of a thread -> the program.
        began: when it began, ticks of _TICK.
    """

    programs: dict[str, str]
    began: int = -1


class Processes:
    """Paths of programs, looked up once for each pid, name of a task and start of its stack; once a
    second at most as long as nothing is found.

    execve() and an exit change what a pid stands for. execve() also draws anew where the stack
    begins, so a path is that of the task only while the process has that stack, and a thread of
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
        self._kept: dict[tuple[int, str, int], _Program] = {}
        self._began: dict[tuple[int, str], tuple[int, str]] = {}  # ticks, path

    def path(self, pid: int, comm: str, start_stack: int = 0) -> str:
        """The program of a task, all links resolved; its name where it has no file that we can see
        (a kernel thread, a deleted file, another mount namespace); empty where the process had
        ended, or ran something else, when it was first looked up.

        Args:
            pid: thread group, 0 for the idle task, which has no entry in /proc.
            comm: the task's name in the kernel; that of a thread may be another than its process's.
            start_stack: as in Packet; 0 where it isn't known.
        """
        if start_stack >> NO_STACK_BIT:
            began, path = self._began.get((pid, comm), (-1, ""))
            if began == (start_stack & _TIME) // _TICK:
                return path
        now = self._monotonic()
        known = self._kept.get((pid, comm, start_stack))
        if known is not None and (
            (known.path and 0 < start_stack <= _TIME) or now - known.checked < _RECHECK_SECONDS
        ):
            return known.path
        before = {comm: known.path if known else ""}
        found = self._find(pid, comm, start_stack)
        for name, path in (before | found.programs).items():
            _keep(self._kept, (pid, name, start_stack), _Program(now, path))
            if path and start_stack:
                _keep(self._began, (pid, name), (found.began, path))
        return self._kept[pid, comm, start_stack].path

    def _find(self, pid: int, comm: str, start_stack: int) -> _Found:
        try:
            process = os.open(f"{self._proc}/{pid}", os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return _Found({})
        with owned(process):  # stays this process's when the pid is given again
            try:
                return _find(process, comm, start_stack)
            except OSError:  # it ended
                return _Found({})


def _keep(kept: dict[Key, Value], key: Key, value: Value) -> None:
    if key not in kept and len(kept) >= _KEPT:
        kept.pop(next(iter(kept)))
    kept[key] = value


def _find(process: int, comm: str, start_stack: int) -> _Found:
    """The programs of those threads that were looked at; none if none is the task.

    Args:
        process: descriptor of its folder in /proc.
    """
    program, main = _executable(process), _comm(process, "comm")
    began, stack = _stat(process) if start_stack else (-1, 0)
    if start_stack >> NO_STACK_BIT:
        is_it = began == (start_stack & _TIME) // _TICK
    else:
        is_it = stack == start_stack
    if not is_it:
        return _Found({})
    if not program:
        # A worker's name has what it works on behind it (wq_worker_comm() of kernel/workqueue.c).
        is_same = main == comm or main.startswith((f"{comm}-", f"{comm}+"))
        return _Found({comm: main} if is_same else {}, began)
    names = {main} if main == comm else set(_threads(process))
    has_changed = _executable(process) != program  # execve() came between
    return _Found({} if has_changed else dict.fromkeys(names, program), began)


def _stat(process: int) -> tuple[int, int]:
    """When it began, and where its stack does: fields 22 and 28 of proc_pid_stat(5)."""
    with open(os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # any byte may be in the name before
    return int(fields[19]), int(fields[25])


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
