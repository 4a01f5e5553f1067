"""Kprobes defined in tracefs: many probes per trace event, enabled and disabled together.

A second definition of the same name adds a probe to the event: Linux commit ca89bc071d5e
("tracing/kprobe: Add multi-probe per event support") (in v5.4). One perf event then runs a program
at all of them, so that detaching a thousand probes takes one RCU grace period instead of a
thousand.

Definitions outlive their process. They are inactive once it has ended, since its perf event is
closed, and the next session removes those of a killed one. A pid doesn't identify the owner: pids
are reused, and other PID namespaces have the same ones. So the group name also has a random byte
offset of the file kprobe_events, at which the owner holds a lock: all namespaces of a machine share
one tracefs, and a lock is released when its process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypwru.fds import closing_fd
from pypwru.kernel.ftrace import MOUNT_POINTS
from pypwru.kernel.pseudofs import open_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFINITIONS_FILE = "kprobe_events"
_GROUP_PREFIX = "pypwru_"
_DEFINITION = re.compile(rf"^[pr]\d*:({_GROUP_PREFIX}\d+_(\d+))/(\w+) ", re.MULTILINE)
_RCU_EXPEDITED = "/sys/kernel/rcu_expedited"
_OWN_VALUE = 0x7077
_FLOCK = struct.Struct("hhqqi4x")  # struct flock, where off_t has 64 bits
_OFFSET_BYTES = 6


def _flock_bytes(offset: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)


def _is_locked(file: int, offset: int) -> bool:
    """Return whether the byte at ``offset`` is locked through another open file description."""
    found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _flock_bytes(offset))
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


class KprobeEvents:
    """The kprobe events of one session.

    Args:
        root: descriptor of the root directory of tracefs; must stay open, is not closed here.

    Raises:
        OSError: no kprobes in this kernel, or no right to define any.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._file = self._open(_DEFINITIONS_FILE, os.O_WRONLY | os.O_APPEND)
        lock_offset = int.from_bytes(os.urandom(_OFFSET_BYTES), "little")
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _flock_bytes(lock_offset))
        self._session_tag = f"{os.getpid()}_{lock_offset}"
        self._group = f"{_GROUP_PREFIX}{self._session_tag}"
        self._names: set[str] = set()

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=self._root)

    def _read(self, name: str) -> str:
        with open(self._open(name, os.O_RDONLY), encoding="ascii", errors="replace") as file:
            return file.read()

    def _event_name(self, event: str) -> str:
        # kprobe_profile lists events without their group: the event name itself must be unique.
        return f"{event}_{self._session_tag}"

    def define(self, event: str, location: str, returns: bool = False) -> None:
        """Add a probe to ``event``.

        Args:
            event: its name in this session.
            location: ``symbol+offset``.
            returns: probe the return of the function that starts there (kretprobe).

        Raises:
            OSError: EILSEQ if that is not the first byte of an instruction, EINVAL if it is
                blacklisted or no such symbol exists.
        """
        kind = "r" if returns else "p"
        os.write(
            self._file, f"{kind}:{self._group}/{self._event_name(event)} {location}\n".encode()
        )
        self._names.add(self._event_name(event))

    def event_id(self, event: str) -> int:
        """Return the event's id, for perf_event_open(2)."""
        return int(self._read(f"events/{self._group}/{self._event_name(event)}/id"))

    def missed_hits(self) -> int:
        """Return how many hits the kernel skipped since a kprobe was running on that CPU."""
        rows = (line.split() for line in self._read("kprobe_profile").splitlines())
        return sum(int(row[-1]) for row in rows if row[0] in self._names)

    def remove_unused(self) -> None:
        """Remove the definitions of this session, and of processes that have ended.

        Those of live processes must be skipped: the kernel doesn't refuse it, even an enabled event
        would lose its probes one by one (trace_kprobe_release() of kernel/trace/trace_kprobe.c).
        """
        with expedite_rcu():
            for group, lock_offset, event in set(
                _DEFINITION.findall(self._read(_DEFINITIONS_FILE))
            ):
                if not _is_locked(self._file, int(lock_offset)):
                    with contextlib.suppress(OSError):  # another session removed it meanwhile
                        os.write(self._file, f"-:{group}/{event}\n".encode())

    def close(self) -> None:
        """Remove all definitions of this session."""
        self.remove_unused()
        os.close(self._file)


@contextmanager
def open_kprobe_events() -> Iterator[KprobeEvents]:
    """Define kprobe events in the context, and remove them on exit.

    Yields:
        The definitions, none at first.

    Raises:
        OSError: no tracefs, no kprobes, or no right to define any.
    """
    with open_root("tracefs", _DEFINITIONS_FILE, MOUNT_POINTS) as root:
        events = KprobeEvents(root)
        try:
            events.remove_unused()
            yield events
        finally:
            events.close()


@contextmanager
def expedite_rcu() -> Iterator[None]:
    """Expedite RCU grace periods in the context: removing a probe waits for one each.

    By rcupdate.rcu_expedited (Documentation/admin-guide/kernel-parameters.txt): a grace period
    takes less than 1 ms instead of 25 ms, at the price of an interrupt to each CPU. A value that
    another session or an administrator has set, before or in the context, is left alone. Any
    nonzero number enables it, so a session writes ``_OWN_VALUE``, and holds a lock on the file: if
    the value is there without a lock, the session that wrote it was killed, and this one resets it.
    """
    with ExitStack() as stack:
        with contextlib.suppress(OSError):
            knob = stack.enter_context(
                closing_fd(os.open(_RCU_EXPEDITED, os.O_RDWR | os.O_CLOEXEC))
            )
            fcntl.flock(knob, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: another session's
            if _read_expedited(knob) in (0, _OWN_VALUE):
                os.pwrite(knob, b"%d" % _OWN_VALUE, 0)
                stack.callback(_reset_expedited, knob)
        yield


def _read_expedited(knob: int) -> int:
    return int(os.pread(knob, 16, 0))


def _reset_expedited(knob: int) -> None:
    with contextlib.suppress(OSError):
        if _read_expedited(knob) == _OWN_VALUE:
            os.pwrite(knob, b"0", 0)
