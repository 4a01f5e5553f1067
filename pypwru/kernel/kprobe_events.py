"""Kprobes defined in tracefs: many probes of one trace event, switched on and off together.

Since Linux 5.5 a second definition of the same name adds a probe to the event (commit
ca89bc071d5e). One perf event then runs a program at all of them: on the way out a thousand probes
cost the one wait for RCU that a perf event of its own would cost each of them.

Definitions outlive their process. They do nothing once it is gone (its perf event went with it),
and the next session removes what a killed one left. A pid doesn't tell which process that was: it
is given again, and other PID namespaces have it, too. So definitions are also named by the number
of a byte of the file, on which their process holds a lock: all namespaces of a machine have the
same tracefs, and a lock ends with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypwru.kernel.descriptors import owned
from pypwru.kernel.ftrace import MOUNTED
from pypwru.kernel.pseudofs import root_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = "kprobe_events"
_GROUP = "pypwru_"
_DEFINED = re.compile(rf"^[pr]\d*:({_GROUP}\d+_(\d+))/(\w+) ", re.MULTILINE)
_RCU_EXPEDITED = "/sys/kernel/rcu_expedited"
_BY_US = 0x7077
_FLOCK = struct.Struct("hhqqi4x")  # struct flock, where off_t has 64 bits
_NUMBER_BYTES = 6


def _lock_of(number: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0)


def _is_locked(file: int, number: int) -> bool:
    """Whether a byte is locked through another open file."""
    found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _lock_of(number))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


class KprobeEvents:
    """Some kprobe events of this process.

    Args:
        root: descriptor of tracefs' root folder.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._file = self._open(_FILE, os.O_WRONLY | os.O_APPEND)
        number = int.from_bytes(os.urandom(_NUMBER_BYTES), "little")
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _lock_of(number))
        self._mark = f"{os.getpid()}_{number}"
        self._group = f"{_GROUP}{self._mark}"
        self._names: set[str] = set()

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=self._root)

    def _read(self, name: str) -> str:
        with open(self._open(name, os.O_RDONLY), encoding="ascii", errors="replace") as file:
            return file.read()

    def _named(self, event: str) -> str:
        # kprobe_profile tells no groups: the name must be ours alone.
        return f"{event}_{self._mark}"

    def define(self, event: str, place: str, returns: bool = False) -> None:
        """Add a probe to ``event``.

        Args:
            place: ``symbol+offset``.
            returns: at the return of the function that begins there.

        Raises:
            OSError: EILSEQ not an instruction's first byte, EINVAL blacklisted or not in the
            kernel.
        """
        kind = "r" if returns else "p"
        os.write(self._file, f"{kind}:{self._group}/{self._named(event)} {place}\n".encode())
        self._names.add(self._named(event))

    def number(self, event: str) -> int:
        """The event's id, for perf_event_open(2)."""
        return int(self._read(f"events/{self._group}/{self._named(event)}/id"))

    def missed(self) -> int:
        """Hits of these probes that the kernel skipped, since a kprobe was running on that CPU."""
        rows = (line.split() for line in self._read("kprobe_profile").splitlines())
        return sum(int(row[-1]) for row in rows if row[0] in self._names)

    def remove_unused(self) -> None:
        """Remove what was defined here, and by processes that are no more.

        Of an event of several probes also one that is switched on would lose them, one by one
        (trace_kprobe_release() of kernel/trace/trace_kprobe.c).
        """
        with expedited_rcu():
            for group, number, event in set(_DEFINED.findall(self._read(_FILE))):
                if not _is_locked(self._file, int(number)):
                    with contextlib.suppress(OSError):  # somebody else's session was faster
                        os.write(self._file, f"-:{group}/{event}\n".encode())

    def close(self) -> None:
        """Remove what was defined."""
        self.remove_unused()
        os.close(self._file)


@contextmanager
def kprobe_events() -> Iterator[KprobeEvents]:
    """The kprobe events of this process, removed on the way out.

    Raises:
        OSError: no tracefs, no kprobes, or no right to define any.
    """
    with root_folder("tracefs", _FILE, MOUNTED) as root:
        events = KprobeEvents(root)
        try:
            events.remove_unused()
            yield events
        finally:
            events.close()


@contextmanager
def expedited_rcu() -> Iterator[None]:
    """Have the kernel not linger in synchronize_rcu(), once for each probe that goes.

    Documentation/admin-guide/kernel-parameters.txt, rcupdate.rcu_expedited: 25 ms a wait become
    less than one, at the price of an interrupt to each CPU. Whoever finds it switched on leaves it
    alone: another session will switch it off, or an administrator wants it so. Any number does, and
    a session writes one of its own, under a lock: without that the session was killed.
    """
    with ExitStack() as stack:
        with contextlib.suppress(OSError):
            knob = stack.enter_context(owned(os.open(_RCU_EXPEDITED, os.O_RDWR | os.O_CLOEXEC)))
            fcntl.flock(knob, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of another session: BlockingIOError
            if int(os.pread(knob, 16, 0)) in (0, _BY_US):
                os.pwrite(knob, b"%d" % _BY_US, 0)
                stack.callback(_switch_off, knob)
        yield


def _switch_off(knob: int) -> None:
    with contextlib.suppress(OSError):
        os.pwrite(knob, b"0", 0)
