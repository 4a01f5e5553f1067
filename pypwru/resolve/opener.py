"""Network namespaces opened by their inodes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# A scan of a machine with many processes takes long: it may take one part in so many of our time.
_SCAN_SHARE = 50


def _paths() -> Iterator[str]:
    yield "/proc/self/ns/net"
    # What `ip netns add` keeps, first: it outlives the processes that are in it.
    for folder in ("/run/netns", "/var/run/netns"):
        try:
            yield from (entry.path for entry in os.scandir(folder))
        except OSError:
            continue
    with os.scandir("/proc") as entries:
        yield from (f"/proc/{entry.name}/ns/net" for entry in entries if entry.name.isdigit())


def namespaces() -> dict[int, str]:
    """Inode of each network namespace that can be found to a path that opens it."""
    found: dict[int, str] = {}
    for path in _paths():
        try:
            found.setdefault(os.stat(path).st_ino, path)
        except OSError:  # the process ended, or is not ours to look at
            continue
    return found


class Opener:
    """Opens namespaces that a process is in, or that ``ip netns`` keeps.

    Args:
        find: inode to path of every namespace.
    """

    def __init__(self, find: Callable[[], dict[int, str]] = namespaces) -> None:
        self._find = find
        self._paths: dict[int, str] = {}
        self.scan_after = float("-inf")  # seconds, of the monotonic clock

    def scan(self) -> Iterable[int]:
        """The inodes of all that can be found."""
        began = time.monotonic()
        self._paths = self._find()
        ended = time.monotonic()
        self.scan_after = ended + _SCAN_SHARE * (ended - began)
        return self._paths

    def open(self, inode: int) -> int | None:
        """A descriptor; None if nobody holds the namespace where we could find it.

        Raises:
            BlockingIOError: it may be found after ``scan_after``.
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
        if os.fstat(descriptor).st_ino != inode:  # the process of this number is another one now
            os.close(descriptor)
            return None
        return descriptor
