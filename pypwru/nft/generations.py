"""Read the generations of rulesets in their namespaces: each commit increments one.

``nf_tables_commit()`` of net/netfilter/nf_tables_api.c increments the generation, then has packets
meet the new rules, then notifies of what changed, and at last of the generation (NFT_MSG_NEWGEN).
That is the order in Linux 5.10 to 6.18. So once the notifications up to a generation were read, all
commits are known that had taken effect before that generation was requested.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from pypwru.fds import closing_fd
from pypwru.kernel.netlink import NetfilterSocket
from pypwru.kernel.netns import enter

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL = 0.1  # seconds between two readings of a namespace, to limit the use of CPU
_MAX_READERS = 64  # threads that are started at a time, each with a socket


class GenerationReader:
    """Reads the generation of each requested network namespace, until it is closed.

    A socket in a namespace keeps it alive, so each is closed once the kernel has replied. Since
    Linux 5.12 that waits for the commit mutex (``nft_rcv_nl_event()``), with which a large ruleset
    may be loaded for seconds. So each reading has a thread, and a namespace one at a time.

    Args:
        open_netns: returns a new descriptor for the inode of a namespace; None if no path leads to
            it; raises BlockingIOError if that is unknown for now. Called from several threads.
        report: is called from several threads with an inode, the time just before the generation
            was read (ns, CLOCK_MONOTONIC), and the generation; None if it can't be read.
    """

    def __init__(
        self,
        open_netns: Callable[[int], int | None],
        report: Callable[[int, int, int | None], None],
    ) -> None:
        self._open_netns = open_netns
        self._report = report
        self._condition = threading.Condition()
        self._requested: set[int] = set()
        self._stop = threading.Event()
        self._readers: dict[int, threading.Thread] = {}  # inode -> its last reader
        self._thread = threading.Thread(target=self._run, name="pypwru-generations", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all threads, after their current readings."""
        self._stop.set()
        with self._condition:
            self._condition.notify_all()
        self._thread.join()
        for reader in self._readers.values():
            reader.join()

    def request(self, inode: int) -> None:
        """Request a reading that begins after this call; never waits.

        Args:
            inode: of the namespace.
        """
        with self._condition:
            if inode not in self._requested:
                self._requested.add(inode)
                self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stop.is_set() or self._requested)
                if self._stop.is_set():
                    return
                count = min(len(self._requested), _MAX_READERS)
                inodes = {self._requested.pop() for _ in range(count)}
            self._readers = {
                inode: reader for inode, reader in self._readers.items() if reader.is_alive()
            }
            # A reader may still be closing its socket: a later reading needs another request.
            for inode in inodes - self._readers.keys():
                reader = threading.Thread(
                    target=self._read, args=(inode,), name="pypwru-netns", daemon=True
                )
                self._readers[inode] = reader
                reader.start()
            self._stop.wait(_INTERVAL)

    def _read(self, inode: int) -> None:
        with contextlib.ExitStack() as sockets:
            moment, generation = time.monotonic_ns(), None
            try:
                descriptor = self._open_netns(inode)
                if descriptor is not None:
                    with closing_fd(descriptor):
                        enter(descriptor)
                    netfilter = sockets.enter_context(NetfilterSocket())
                    moment = time.monotonic_ns()
                    generation = netfilter.generation()
            except BlockingIOError:  # it is searched for later, at another request
                return
            except OSError:
                generation = None
            self._report(inode, moment, generation)
