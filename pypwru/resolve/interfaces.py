"""(Network namespace, ifindex) to the interface's name, also of what appears during the trace."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping

from pypwru.resolve import links

_OWN = "/proc/self/ns/net"
_RESCAN_SECONDS = 1.0
# An inode of a namespace is given again after its death, and links are renamed: names age.
_OLD_SECONDS = 5.0
# A scan of a machine with many processes takes long: it may take one part in so many of our time.
_SCAN_SHARE = 50
_KEPT_NAMESPACES = 4096

Reader = Callable[[Mapping[int, str], int], dict[int, dict[int, str]]]


def _paths() -> Iterator[str]:
    yield _OWN
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


class Interfaces:
    """Names of interfaces.

    All namespaces are read at the first look-up, and again when a look-up misses, once a second at
    most; the names of one namespace are read again when they are older than five seconds.

    Args:
        find: inode to path of every namespace.
        read: their interfaces, as ``links.interfaces``.
        monotonic: seconds.
    """

    def __init__(
        self,
        find: Callable[[], dict[int, str]] = namespaces,
        read: Reader = links.interfaces,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._read = read
        self._monotonic = monotonic
        self._own = os.stat(_OWN).st_ino if os.path.exists(_OWN) else 0
        self._paths: dict[int, str] = {}
        self._names: dict[int, dict[int, str]] = {}
        self._read_at: dict[int, float] = {}
        self._scan_after = -1.0

    def name(self, netns: int, ifindex: int) -> str:
        """The name of an interface; empty when it isn't known.

        Args:
            netns: inode of the namespace.
            ifindex: 0 is no interface.
        """
        if not ifindex:
            return ""
        now = self._monotonic()
        if ifindex not in self._names.get(netns, {}):
            if now >= self._scan_after:
                self._scan(now)
        elif now - self._read_at[netns] >= _OLD_SECONDS:
            self._refresh(netns, now)
        return self._names.get(netns, {}).get(ifindex, "")

    def _scan(self, now: float) -> None:
        self._paths = self._find()
        self._keep(self._read(self._paths, self._own), now)
        after = self._monotonic()
        self._scan_after = after + max(_RESCAN_SECONDS, _SCAN_SHARE * (after - now))

    def _refresh(self, netns: int, now: float) -> None:
        self._read_at[netns] = now
        path = self._paths.get(netns)
        found = self._read({netns: path}, self._own) if path is not None else {}
        self._keep(found, now)
        if not found and now >= self._scan_after:  # it is reached by another path now, or gone
            self._scan(now)

    def _keep(self, found: dict[int, dict[int, str]], now: float) -> None:
        # Late events of a namespace that is gone still get its names.
        self._names.update(found)
        self._read_at.update(dict.fromkeys(found, now))
        while len(self._names) > _KEPT_NAMESPACES:
            oldest = min(self._names, key=self._read_at.__getitem__)
            del self._names[oldest], self._read_at[oldest]
