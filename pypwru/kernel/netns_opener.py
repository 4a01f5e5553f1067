"""Open network namespaces by inode."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# A scan of /proc takes long with many processes: the pause after it is this many times as long.
_SCAN_PAUSE_FACTOR = 50


def _candidate_paths() -> Iterator[str]:
    yield "/proc/self/ns/net"
    # Before those of processes: files of `ip netns add` outlive the processes in the namespace.
    for folder in ("/run/netns", "/var/run/netns"):
        try:
            yield from (entry.path for entry in os.scandir(folder))
        except OSError:
            continue
    with os.scandir("/proc") as entries:
        yield from (f"/proc/{entry.name}/ns/net" for entry in entries if entry.name.isdigit())


def find_namespaces() -> dict[int, str]:
    """Return inode -> path to open, of each network namespace.

    These are the namespaces that a process is in or that ``ip netns`` keeps.
    """
    found: dict[int, str] = {}
    for path in _candidate_paths():
        try:
            found.setdefault(os.stat(path).st_ino, path)
        except OSError:  # the process ended, or we lack the permission (ptrace(2))
            continue
    return found


class NetnsOpener:
    """Opens network namespaces that a process is in, or that ``ip netns`` keeps; thread-safe.

    Args:
        find: returns inode -> path of every namespace.

    Attributes:
        next_scan: time of the next scan that ``open`` makes; seconds, ``time.monotonic()``.
    """

    def __init__(self, find: Callable[[], dict[int, str]] = find_namespaces) -> None:
        self._find = find
        self._scan_lock = threading.RLock()
        self._path_by_inode: dict[int, str] = {}
        self.next_scan = float("-inf")  # seconds, of the monotonic clock

    def scan(self) -> Iterable[int]:
        """Search for namespaces again and return their inodes."""
        with self._scan_lock:
            began = time.monotonic()
            self._path_by_inode = self._find()
            ended = time.monotonic()
            self.next_scan = ended + _SCAN_PAUSE_FACTOR * (ended - began)
            return self._path_by_inode

    def open(self, inode: int) -> int | None:
        """Return a new descriptor, owned by the caller; None if no path leads to the namespace.

        Raises:
            BlockingIOError: not found by the last scan, which is too recent for another one: try
                again after ``next_scan``.
        """
        found = self._try_open(inode)
        if found is not None:
            return found
        with self._scan_lock:
            if time.monotonic() < self.next_scan:
                raise BlockingIOError(11, os.strerror(11))
            self.scan()
        return self._try_open(inode)

    def _try_open(self, inode: int) -> int | None:
        path = self._path_by_inode.get(inode)
        if path is None:
            return None
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        if os.fstat(descriptor).st_ino != inode:  # the pid was reused, or its process has moved
            os.close(descriptor)
            return None
        return descriptor
