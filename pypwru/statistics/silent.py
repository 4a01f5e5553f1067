"""Losses without a drop event: the kernel frees these packets by consume_skb(), as if delivered.

Only counters of the kernel show them: they are read when a trace begins and when it ends.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pypwru.fds import closing_fd
from pypwru.kernel.loss_counters import LISTEN_DROPS, read_loss_counters
from pypwru.kernel.netns import run_in_namespace
from pypwru.kernel.netns_opener import find_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LossCounters = dict[int, dict[str, int]]
"""Inode of a network namespace that can be read -> name of a counter -> its value."""

_NETNS_DIR, _OWN_NETNS = "/run/netns", "/proc/self/ns/net"
_LISTEN_TEXT = (
    "segments that a listening socket refused, mostly since its accept queue is full: ss -ltn"
)
_WIREGUARD_TEXT = "packets that WireGuard refused, of no peer's allowed-ips or damaged: wg show"
_MAX_SENTENCES = 8  # sentences


class SilentLosses:
    """Reads the counters at its construction and at the end, and describes their growth.

    Args:
        netns: inode of the only network namespace that is traced; 0 for all.
        find: returns inode -> path to open, of every namespace.
        read_counters: returns the counters of the calling thread's namespace.
    """

    def __init__(
        self,
        netns: int = 0,
        find: Callable[[], Mapping[int, str]] = find_namespaces,
        read_counters: Callable[[], dict[str, int]] = read_loss_counters,
    ) -> None:
        self._netns = netns
        self._find = find
        self._read_counters = read_counters
        self._paths: Mapping[int, str] = {}
        self._initial = self._read_all()
        # Of these the growth is unknown: without a beginning, the end would be taken for it.
        self._unreadable = self._paths.keys() - self._initial.keys()

    def sentences(self) -> list[str]:
        """Return a sentence for each counter that grew.

        Namespaces that can't be read are left out, at the start or at the end: those that were
        deleted, for instance.
        """
        found = []
        for netns, counters in self._read_all().items():
            if netns in self._unreadable:
                continue
            initial = self._initial.get(netns, {})
            for name, value in counters.items():
                growth = value - initial.get(name, 0)
                if growth > 0:
                    found.append(self._sentence(netns, name, growth))
        omitted = len(found) - _MAX_SENTENCES
        return [
            *found[:_MAX_SENTENCES],
            *([f"and {omitted} more such counters"] if omitted > 0 else []),
        ]

    def _sentence(self, netns: int, counter: str, number: int) -> str:
        path = self._paths.get(netns, "")
        name = os.path.basename(path) if os.path.dirname(path) == _NETNS_DIR else f"inode:{netns}"
        meaning = _LISTEN_TEXT if counter == LISTEN_DROPS else _WIREGUARD_TEXT
        return (
            f"{counter} grew by {number} in network namespace {name}: {meaning}. The kernel frees "
            "most of these as if they had arrived, without a drop event"
        )

    def _read_all(self) -> LossCounters:
        self._paths = self._find()
        found: LossCounters = {}
        for netns, path in self._paths.items():
            counters = self._read_namespace(netns, path) if self._netns in (0, netns) else None
            if counters is not None:
                found[netns] = counters
        return found

    def _read_namespace(self, netns: int, path: str) -> dict[str, int] | None:
        """Return the counters of a namespace; None without CAP_SYS_ADMIN, except for our own.

        Args:
            netns: inode.
            path: to open it.
        """
        with suppress(OSError):
            if os.stat(_OWN_NETNS).st_ino == netns:
                return self._read_counters()
        with suppress(OSError), closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as descriptor:
            if os.fstat(descriptor).st_ino == netns:
                return run_in_namespace(descriptor, self._read_counters)
        return None
