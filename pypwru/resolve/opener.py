"""Network namespaces opened by their inodes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pypwru.resolve.interfaces import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# A scan of a machine with many processes takes long: it may take one part in so many of our time.
_SCAN_SHARE = 50


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
