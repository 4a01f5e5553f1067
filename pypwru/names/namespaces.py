"""Names that ``ip netns`` gave to network namespaces."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

from pypwru.fds import closing_fd
from pypwru.kernel.netns import netns_cookie

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NETNS_DIR = "/run/netns"
_MOUNTINFO = "/proc/self/mountinfo"
_RESCAN_SECONDS = 1.0
_MAX_CACHED = 4096


class _CachedName(NamedTuple):
    name: str
    scan_number: int  # sequence number of the scan that found it


class NetnsNames:
    """Names of network namespaces: the files of /run/netns.

    They are read for each new namespace, and for namespaces without a name at most once a second.

    The kernel reuses inodes of namespaces, so names are cached by inode and cookie: a name outlives
    its namespace (records of its last packets are read later) and is never given to the next
    namespace with the same inode. Without a cookie, a name is valid while its file has the inode.

    Args:
        folder: folder of the files.
        monotonic: clock in seconds.
        read_cookie: descriptor of a namespace -> SO_NETNS_COOKIE; 0 if the kernel has none.
    """

    def __init__(
        self,
        folder: str = _NETNS_DIR,
        monotonic: Callable[[], float] = time.monotonic,
        read_cookie: Callable[[int], int] = netns_cookie,
    ) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._read_cookie = read_cookie
        self._name_by_inode: dict[int, str] = {}  # inode -> name
        self._scan_count = 0
        self._next_scan = float("-inf")
        self._cache: dict[tuple[int, int], _CachedName] = {}
        self._cache_lock = threading.Lock()

    def name(self, netns: int, cookie: int) -> str:
        """Return the name of a namespace; "" if it has none.

        Args:
            netns: inode of the namespace.
            cookie: SO_NETNS_COOKIE; 0 if unknown.
        """
        cached = self._cache.get((netns, cookie))
        if cached and cached.name and (cookie or self._is_namespace(cached.name, netns, cookie)):
            return cached.name
        if not cached or self._monotonic() >= self._next_scan:
            self._scan()
        elif cached.scan_number == self._scan_count:
            return ""
        name = self._name_by_inode.get(netns, "")
        if name and not self._is_namespace(name, netns, cookie):
            name = ""
        self._cache_name(netns, cookie, name)
        return name

    @contextmanager
    def watch_mounts(self) -> Iterator[None]:
        """Learn names as they are made, in a thread, until the context exits.

        A short-lived namespace may be gone before the first look-up.
        """
        stop = os.eventfd(0, os.EFD_CLOEXEC)
        with closing_fd(stop), open(_MOUNTINFO) as mounts:
            thread = threading.Thread(
                target=self._watch, args=(mounts, stop), name="pypwru-namespaces", daemon=True
            )
            thread.start()
            try:
                yield
            finally:
                os.eventfd_write(stop, 1)
                thread.join()

    def _watch(self, mounts: TextIO, stop: int) -> None:
        poll = select.poll()
        poll.register(mounts, select.POLLPRI)  # set at each mount: proc_pid_mountinfo(5)
        poll.register(stop, select.POLLIN)
        inode_by_name: dict[str, int] = {}
        ready: list[int] = []
        while stop not in ready:
            previous, inode_by_name = (
                inode_by_name,
                {name: inode for inode, name in self._list_files().items()},
            )
            for name, inode in inode_by_name.items() - previous.items():
                with suppress(OSError), closing_fd(self._open(name)) as descriptor:
                    if os.fstat(descriptor).st_ino == inode and (
                        cookie := self._read_cookie(descriptor)
                    ):
                        self._cache_name(inode, cookie, name)
            ready = [fd for fd, _ in poll.poll()]

    def _cache_name(self, netns: int, cookie: int, name: str) -> None:
        with self._cache_lock:
            if len(self._cache) >= _MAX_CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[netns, cookie] = _CachedName(name, self._scan_count)

    def _open(self, name: str) -> int:
        return os.open(f"{self._folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)

    def _is_namespace(self, name: str, netns: int, cookie: int) -> bool:
        """Return whether the file ``name`` is this namespace; by inode alone without a cookie."""
        try:
            descriptor = self._open(name)
        except OSError:
            return False
        with closing_fd(descriptor):
            return os.fstat(descriptor).st_ino == netns and (
                not cookie or self._read_cookie(descriptor) in (cookie, 0)
            )

    def _scan(self) -> None:
        self._name_by_inode = self._list_files()
        self._scan_count += 1
        self._next_scan = self._monotonic() + _RESCAN_SECONDS

    def _list_files(self) -> dict[int, str]:
        """Return inode -> name of each file."""
        found: dict[int, str] = {}
        with suppress(OSError):  # no `ip netns add` since the boot
            for name in sorted(os.listdir(self._folder)):
                with suppress(OSError):  # deleted meanwhile
                    found[os.stat(f"{self._folder}/{name}").st_ino] = name
        return found
