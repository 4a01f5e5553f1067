"""Path of the program that a task runs, from /proc."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.fds import closing_fd
from pypwru.wire.record import header_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")

NO_MM_BIT = header_constants()["NO_MM_BIT"]
_START_TIME_MASK = (1 << NO_MM_BIT) - 1
_NS_PER_TICK = 10_000_000  # ns; USER_HZ of include/asm-generic/param.h is 100
_MAX_CACHED = 4096
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


class _CachedPath(NamedTuple):
    checked_at: float  # seconds, of the monotonic clock
    path: str


class _ProcessPrograms(NamedTuple):
    """Programs of a process.

    Args:
        programs: comm of a thread -> path of the program.
        start_tick: start of the process since boot, in units of ``_NS_PER_TICK``; -1 if unknown.
    """

    programs: dict[str, str]
    start_tick: int = -1


class ProcessPaths:
    """Paths of programs, looked up once for each (pid, comm, start of the stack).

    If nothing was found, they are looked up again at most once a second.

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
        self._cache: dict[tuple[int, str, int], _CachedPath] = {}
        self._cache_by_start: dict[tuple[int, str], tuple[int, str]] = {}  # ticks, path

    def path(self, pid: int, comm: str, start_stack: int = 0) -> str:
        """Return the path of a task's program, with symbolic links resolved.

        The name of the task instead, if no file is visible (kernel thread, deleted file, another
        mount namespace). "" if the process had ended or run another program by the first look-up.

        Args:
            pid: thread group ID; 0 for the idle task, which has no entry in /proc.
            comm: ``task_struct.comm``; a thread's may differ from its process's.
            start_stack: as of output.parts.Packet; 0 if unknown.
        """
        if start_stack >> NO_MM_BIT:
            start_tick, path = self._cache_by_start.get((pid, comm), (-1, ""))
            if start_tick == (start_stack & _START_TIME_MASK) // _NS_PER_TICK:
                return path
        now = self._monotonic()
        cached = self._cache.get((pid, comm, start_stack))
        if cached is not None and (
            (cached.path and 0 < start_stack <= _START_TIME_MASK)
            or now - cached.checked_at < _RECHECK_SECONDS
        ):
            return cached.path
        fallback = {comm: cached.path if cached else ""}
        found = self._inspect(pid, comm, start_stack)
        for name, path in (fallback | found.programs).items():
            _store(self._cache, (pid, name, start_stack), _CachedPath(now, path))
            if path and start_stack:
                _store(self._cache_by_start, (pid, name), (found.start_tick, path))
        return self._cache[pid, comm, start_stack].path

    def _inspect(self, pid: int, comm: str, start_stack: int) -> _ProcessPrograms:
        try:
            process = os.open(f"{self._proc}/{pid}", os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return _ProcessPrograms({})
        with closing_fd(process):  # refers to this process even if the pid is reused
            try:
                return _inspect_process(process, comm, start_stack)
            except OSError:  # it ended
                return _ProcessPrograms({})


def _store(cache: dict[_KeyT, _ValueT], key: _KeyT, value: _ValueT) -> None:
    if key not in cache and len(cache) >= _MAX_CACHED:
        cache.pop(next(iter(cache)))
    cache[key] = value


def _inspect_process(process: int, comm: str, start_stack: int) -> _ProcessPrograms:
    """Return the program for the comms of the process; empty if the task isn't of this process.

    Args:
        process: descriptor of the folder /proc/PID.
        comm: of the task.
        start_stack: as of output.parts.Packet; 0 if unknown, and then any process matches.

    Raises:
        OSError: the process ended.
    """
    program, main_comm = _read_exe(process), _read_comm(process, "comm")
    start_tick, stack = _read_start_and_stack(process) if start_stack else (-1, 0)
    if start_stack >> NO_MM_BIT:
        is_match = start_tick == (start_stack & _START_TIME_MASK) // _NS_PER_TICK
    else:
        is_match = stack == start_stack
    if not is_match:
        return _ProcessPrograms({})
    if not program:
        # /proc shows a kworker's comm with its work item behind it (kernel/workqueue.c,
        # wq_worker_comm()).
        is_same_task = main_comm == comm or main_comm.startswith((f"{comm}-", f"{comm}+"))
        return _ProcessPrograms({comm: main_comm} if is_same_task else {}, start_tick)
    names = {main_comm} if main_comm == comm else set(_thread_comms(process))
    has_called_exec = _read_exe(process) != program  # execve() came between
    return _ProcessPrograms({} if has_called_exec else dict.fromkeys(names, program), start_tick)


def _read_start_and_stack(process: int) -> tuple[int, int]:
    """Return fields 22 (starttime, in ``_NS_PER_TICK``) and 28 (startstack) of proc_pid_stat(5)."""
    with open(os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # the comm before may have any byte
    return int(fields[19]), int(fields[25])


def _read_exe(process: int) -> str:
    try:
        return os.path.realpath(os.readlink("exe", dir_fd=process), strict=True)
    except OSError:
        return ""


def _read_comm(process: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), "rb") as file:
        return os.fsdecode(file.read()[:-1])  # only the final newline: a comm may have any byte


def _thread_comms(process: int) -> Iterator[str]:
    with closing_fd(os.open("task", os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)) as task:
        for thread in os.listdir(task):
            with suppress(OSError):  # it ended
                yield _read_comm(task, f"{thread}/comm")
