"""Path of the program that a task runs, from /proc."""

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
    """Return whether procfs shows the pids of the initial PID namespace, as records do.

    The procfs of a container mostly shows others. Read from pid 1 if permitted, else from our own
    process: procfs can be of another PID namespace than ours.

    Args:
        proc: mount point of procfs.
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
    """Programs of a process.

    Args:
        programs: comm of a thread -> path of the program.
        began: start of the process since boot, in units of ``_TICK``; -1 if unknown.
    """

    programs: dict[str, str]
    began: int = -1


class Processes:
    """Paths of programs, looked up once for each (pid, comm, start of the stack); if nothing was
    found, again at most once a second.

    execve() and exit change the program of a pid. execve() also randomizes the start of the stack,
    so a path is accepted only if the process still has that stack and a thread of this comm. A path
    stays cached after its process ended, since records of its last packets are read later.

    Args:
        proc: mount point of procfs.
        monotonic: clock in seconds.
    """

    def __init__(
        self, proc: str = "/proc", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._monotonic = monotonic
        self._kept: dict[tuple[int, str, int], _Program] = {}
        self._began: dict[tuple[int, str], tuple[int, str]] = {}  # ticks, path

    def path(self, pid: int, comm: str, start_stack: int = 0) -> str:
        """Return the path of a task's program, with symbolic links resolved.

        The name of the task instead, if no file is visible (kernel thread, deleted file, another
        mount namespace). "" if the process had ended or run another program by the first look-up.

        Args:
            pid: thread group ID; 0 for the idle task, which has no entry in /proc.
            comm: ``task_struct.comm``; a thread's may differ from its process's.
            start_stack: as of output.parts.Packet; 0 if unknown.
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
        with owned(process):  # refers to this process even if the pid is reused
            try:
                return _find(process, comm, start_stack)
            except OSError:  # it ended
                return _Found({})


def _keep(kept: dict[Key, Value], key: Key, value: Value) -> None:
    if key not in kept and len(kept) >= _KEPT:
        kept.pop(next(iter(kept)))
    kept[key] = value


def _find(process: int, comm: str, start_stack: int) -> _Found:
    """Return the program for the comms of the process; empty if the task isn't of this process.

    Args:
        process: descriptor of the folder /proc/PID.
        comm: of the task.
        start_stack: as of output.parts.Packet; 0 if unknown, and then any process matches.

    Raises:
        OSError: the process ended.
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
        # /proc shows a kworker's comm with its work item behind it (kernel/workqueue.c,
        # wq_worker_comm()).
        is_same = main == comm or main.startswith((f"{comm}-", f"{comm}+"))
        return _Found({comm: main} if is_same else {}, began)
    names = {main} if main == comm else set(_threads(process))
    has_changed = _executable(process) != program  # execve() came between
    return _Found({} if has_changed else dict.fromkeys(names, program), began)


def _stat(process: int) -> tuple[int, int]:
    """Return fields 22 (starttime, in ``_TICK``) and 28 (startstack) of proc_pid_stat(5)."""
    with open(os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # the comm before may have any byte
    return int(fields[19]), int(fields[25])


def _executable(process: int) -> str:
    try:
        return os.path.realpath(os.readlink("exe", dir_fd=process), strict=True)
    except OSError:
        return ""


def _comm(process: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), "rb") as file:
        return os.fsdecode(file.read()[:-1])  # only the final newline: a comm may have any byte


def _threads(process: int) -> Iterator[str]:
    with owned(os.open("task", os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)) as task:
        for thread in os.listdir(task):
            with suppress(OSError):  # it ended
                yield _comm(task, f"{thread}/comm")
