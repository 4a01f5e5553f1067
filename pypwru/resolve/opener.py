"""Open network namespaces by inode."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# A scan of /proc takes long with many processes: the pause after it is this many times as long.
_SCAN_SHARE = 50


def _paths() -> Iterator[str]:
    yield "/proc/self/ns/net"
    # Before those of processes: files of `ip netns add` outlive the processes in the namespace.
    for folder in ("/run/netns", "/var/run/netns"):
        try:
            yield from (entry.path for entry in os.scandir(folder))
        except OSError:
            continue
    with os.scandir("/proc") as entries:
        yield from (f"/proc/{entry.name}/ns/net" for entry in entries if entry.name.isdigit())


def namespaces() -> dict[int, str]:
    """Return inode -> path to open, of each network namespace that a process is in or that
    ``ip netns`` keeps.
    """
    found: dict[int, str] = {}
    for path in _paths():
        try:
            found.setdefault(os.stat(path).st_ino, path)
        except OSError:  # the process ended, or we lack the permission (ptrace(2))
            continue
    return found


class Opener:
    """Opens network namespaces that a process is in, or that ``ip netns`` keeps.

    Args:
        find: returns inode -> path of every namespace.

    Attributes:
        scan_after: time of the next scan that ``open`` makes; seconds, ``time.monotonic()``.
    """

    def __init__(self, find: Callable[[], dict[int, str]] = namespaces) -> None:
        self._find = find
        self._paths: dict[int, str] = {}
        self.scan_after = float("-inf")  # seconds, of the monotonic clock

    def scan(self) -> Iterable[int]:
        """Search for namespaces again and return their inodes."""
        began = time.monotonic()
        self._paths = self._find()
        ended = time.monotonic()
        self.scan_after = ended + _SCAN_SHARE * (ended - began)
        return self._paths

    def open(self, inode: int) -> int | None:
        """Return a new descriptor, owned by the caller; None if no path leads to the namespace.

        Raises:
            BlockingIOError: not found by the last scan, which is too recent for another one: try
                again after ``scan_after``.
        """
        found = self._open(inode)
        if found is not None:
            return found
        if time.monotonic() < self.scan_after:
            raise BlockingIOError(11, os.strerror(11))
        self.scan()
        return self._open(inode)

    def _open(self, inode: int) -> int | None:
        path = self._paths.get(inode)
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
