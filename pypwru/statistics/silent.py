"""Losses without a drop event: the kernel frees these packets by consume_skb(), as if delivered.

Only counters of the kernel show them: they are read when a trace begins and when it ends.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pypwru.kernel.descriptors import owned
from pypwru.kernel.loss_counters import LISTEN_DROPS, read_loss_counters
from pypwru.kernel.netns import in_namespace
from pypwru.resolve.opener import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Counters = dict[tuple[int, str], int]
"""(inode of a network namespace, name of a counter) -> its value."""

_NAMED, _OWN = "/run/netns", "/proc/self/ns/net"
_LISTEN = "segments that a listening socket refused, mostly since its accept queue is full: ss -ltn"
_WIREGUARD = "packets that WireGuard refused, of no peer's allowed-ips or damaged: wg show"
_MOST = 8  # sentences


class SilentLosses:
    """Reads the counters at its construction and at the end, and describes their growth.

    Args:
        netns: inode of the only network namespace that is traced; 0 for all.
        find: returns inode -> path to open, of every namespace.
        read: returns the counters of the calling thread's namespace.
    """

    def __init__(
        self,
        netns: int = 0,
        find: Callable[[], Mapping[int, str]] = namespaces,
        read: Callable[[], dict[str, int]] = read_loss_counters,
    ) -> None:
        self._netns = netns
        self._find = find
        self._read = read
        self._paths: Mapping[int, str] = {}
        self._before = self._counted()

    def sentences(self) -> list[str]:
        """Return a sentence for each counter that grew, except in namespaces that were deleted."""
        after = self._counted()
        more = {key: number - self._before.get(key, 0) for key, number in after.items()}
        found = [self._sentence(*key, number) for key, number in more.items() if number > 0]
        left = len(found) - _MOST
        return [*found[:_MOST], *([f"and {left} more such counters"] if left > 0 else [])]

    def _sentence(self, netns: int, counter: str, number: int) -> str:
        path = self._paths.get(netns, "")
        name = os.path.basename(path) if os.path.dirname(path) == _NAMED else f"inode:{netns}"
        what = _LISTEN if counter == LISTEN_DROPS else _WIREGUARD
        return (
            f"{counter} grew by {number} in network namespace {name}: {what}. The kernel frees "
            "most of these as if they had arrived, without a drop event"
        )

    def _counted(self) -> Counters:
        self._paths = self._find()
        found: Counters = {}
        for netns, path in self._paths.items():
            if self._netns in (0, netns):
                found |= {(netns, name): number for name, number in self._of(netns, path).items()}
        return found

    def _of(self, netns: int, path: str) -> dict[str, int]:
        """Return the counters of a namespace; none without CAP_SYS_ADMIN, except our own.

        Args:
            netns: inode.
            path: to open it.
        """
        with suppress(OSError):
            if os.stat(_OWN).st_ino == netns:
                return self._read()
        with suppress(OSError), owned(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as descriptor:
            if os.fstat(descriptor).st_ino == netns:
                return in_namespace(descriptor, self._read)
        return {}
