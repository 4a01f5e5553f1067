"""Names that ``ip netns`` gave to network namespaces."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

from pypwru.kernel.descriptors import owned
from pypwru.kernel.netns import cookie_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER = "/run/netns"
_MOUNTS = "/proc/self/mountinfo"
_RESCAN_SECONDS = 1.0
_KEPT = 4096


class _Found(NamedTuple):
    name: str
    scan: int  # sequence number of the scan that found it


class Namespaces:
    """Names of network namespaces: the files of /run/netns, read for each new namespace, and for
    namespaces without a name at most once a second.

    The kernel reuses inodes of namespaces, so names are cached by inode and cookie: a name outlives
    its namespace (records of its last packets are read later) and is never given to the next
    namespace with the same inode. Without a cookie, a name is valid while its file has the inode.

    Args:
        folder: folder of the files.
        monotonic: clock in seconds.
        cookie: descriptor of a namespace -> SO_NETNS_COOKIE; 0 if the kernel has none.
    """

    def __init__(
        self,
        folder: str = _FOLDER,
        monotonic: Callable[[], float] = time.monotonic,
        cookie: Callable[[int], int] = cookie_of,
    ) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._cookie = cookie
        self._files: dict[int, str] = {}  # inode -> name
        self._scans = 0
        self._scan_after = float("-inf")
        self._kept: dict[tuple[int, int], _Found] = {}
        self._changing = threading.Lock()

    def name(self, netns: int, cookie: int) -> str:
        """Return the name of a namespace; "" if it has none.

        Args:
            netns: inode of the namespace.
            cookie: SO_NETNS_COOKIE; 0 if unknown.
        """
        found = self._kept.get((netns, cookie))
        if found and found.name and (cookie or self._is(found.name, netns, cookie)):
            return found.name
        if not found or self._monotonic() >= self._scan_after:
            self._scan()
        elif found.scan == self._scans:
            return ""
        name = self._files.get(netns, "")
        if name and not self._is(name, netns, cookie):
            name = ""
        self._keep(netns, cookie, name)
        return name

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Learn names as they are made, in a thread, until the context exits: a short-lived
        namespace may be gone before the first look-up.
        """
        stop = os.eventfd(0, os.EFD_CLOEXEC)
        with owned(stop), open(_MOUNTS) as mounts:
            watch = threading.Thread(
                target=self._watch, args=(mounts, stop), name="pypwru-namespaces", daemon=True
            )
            watch.start()
            try:
                yield
            finally:
                os.eventfd_write(stop, 1)
                watch.join()

    def _watch(self, mounts: TextIO, stop: int) -> None:
        poll = select.poll()
        poll.register(mounts, select.POLLPRI)  # set at each mount: proc_pid_mountinfo(5)
        poll.register(stop, select.POLLIN)
        named: dict[str, int] = {}
        ready: list[int] = []
        while stop not in ready:
            before, named = named, {name: inode for inode, name in self._read().items()}
            for name, inode in named.items() - before.items():
                with suppress(OSError), owned(self._open(name)) as descriptor:
                    if os.fstat(descriptor).st_ino == inode and (
                        cookie := self._cookie(descriptor)
                    ):
                        self._keep(inode, cookie, name)
            ready = [fd for fd, _ in poll.poll()]

    def _keep(self, netns: int, cookie: int, name: str) -> None:
        with self._changing:
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[netns, cookie] = _Found(name, self._scans)

    def _open(self, name: str) -> int:
        return os.open(f"{self._folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)

    def _is(self, name: str, netns: int, cookie: int) -> bool:
        """Return whether the file ``name`` is this namespace; by inode alone without a cookie."""
        try:
            descriptor = self._open(name)
        except OSError:
            return False
        with owned(descriptor):
            return os.fstat(descriptor).st_ino == netns and (
                not cookie or self._cookie(descriptor) in (cookie, 0)
            )

    def _scan(self) -> None:
        self._files = self._read()
        self._scans += 1
        self._scan_after = self._monotonic() + _RESCAN_SECONDS

    def _read(self) -> dict[int, str]:
        """Return inode -> name of each file."""
        found: dict[int, str] = {}
        with suppress(OSError):  # no `ip netns add` since the boot
            for name in sorted(os.listdir(self._folder)):
                with suppress(OSError):  # deleted meanwhile
                    found[os.stat(f"{self._folder}/{name}").st_ino] = name
        return found
