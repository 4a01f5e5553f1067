"""Texts of nftables rules and names of chains by handle, for rulesets that change.

A look-up never waits: it returns what is cached and has a thread list the ruleset for the rest.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from pypwru.kernel.descriptors import owned
from pypwru.resolve.listing import Lister, Listing
from pypwru.resolve.opener import Opener
from pypwru.resolve.ruleset import ChainText, RuleText
from pypwru.resolve.rulestore import Memory
from pypwru.resolve.rulewatch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

_NEVER, _NOW = float("inf"), float("-inf")
# Pause after a listing: at least so many seconds, to batch further changes; and so many times the
# duration of the listing, to limit the use of CPU.
_LEAST_PAUSE = 0.01
_PAUSE_SHARE = 3
# ns from a commit's taking effect to its notification's being readable, even on a busy machine.
_TOLD = 1_000_000_000
_SOON = 0.1  # seconds, the same in most cases
_AGAIN = 1.0  # seconds between listings for handles that the last one didn't have
_LOOK = 0.5  # seconds between checks whether nf_tables is loaded
_UNHEARD = -1  # instead of a generation


class _Namespace:
    """A namespace that is monitored or was requested; times are seconds, CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.heard = _UNHEARD  # the last generation that was notified
        self.changed = _UNHEARD  # the last one with changes of tables, chains or rules
        self.asked = False  # a look-up missed: list again after changes
        self.due = _NEVER  # when to list the rules
        self.listed = _NOW  # when the last listing began
        self.rest = _NOW  # no listing before this

    def when(self) -> float:
        return max(self.due, self.rest)

    def order(self) -> tuple[float, bool]:
        """Sort key: the least is listed first; of equal times, requested namespaces first."""
        return self.when(), not self.asked


class Rules:
    """Service for texts of rules and names of chains, with a thread between enter and ``close``.

    From the start it monitors all network namespaces, and lists the rules of all or of one. After
    the first request for a namespace, its rules are listed again when the kernel notifies of a
    change, and at most once a second for an unknown handle. Events from before a namespace was
    subscribed are not resolved, since the handle may have been reused. This affects only
    namespaces created after the start.

    Args:
        warn: logs a reason for missing texts, each once; mostly called from the thread.
        is_there: returns whether the kernel has nf_tables. Until it has, no netlink message is
            sent to nf_tables, since that would load the module.
        netns: inode of the namespace whose rules are listed at the start; 0 for all.

    Attributes:
        changes: grows whenever an answer may differ from an earlier one.
    """

    def __init__(
        self,
        warn: Callable[[str], None] = lambda message: None,
        is_there: Callable[[], bool] = lambda: True,
        netns: int = 0,
    ) -> None:
        self.changes = 0
        self._warn = functools.cache(warn)  # each message once
        self._is_there = is_there
        self._first = netns
        self._opener = Opener()
        self._lister = Lister()
        self._namespaces: dict[int, _Namespace] = {}
        self._watch: Watch | None = None
        self._changed = threading.Condition()  # guards all attributes; never held for long
        self._sure = 0  # all notifications up to then are processed; ns, CLOCK_MONOTONIC
        self._wake = -1  # an eventfd
        self._thread: threading.Thread | None = None
        self._busy = 0  # inode of the namespace whose rules are being listed; 0 for none
        self._stop = False

    def __enter__(self) -> Rules:
        if self._is_there() and not self._listen_to_all():
            return self
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._work, name="pypwru-rules", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; look-ups keep working on what is cached."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._thread is None:
            return
        self._lister.close()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._thread = None
        os.close(self._wake)
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _listen_to_all(self) -> bool:
        """Subscribe to changes in every namespace; if that fails, warn and return False."""
        try:
            watch = Watch()
        except OSError as error:
            self._warn(f"nftables' rules are shown without their text: {error.strerror}")
            with self._changed:
                self._stop = True
                self._changed.notify_all()
            return False
        with self._changed:
            self._watch = watch
        for inode in self._opener.scan():
            descriptor = self._opener.open(inode)
            if descriptor is not None:
                # A failure is logged at the first request for the namespace.
                with owned(descriptor), contextlib.suppress(OSError):
                    namespace = self._listen(inode, descriptor)
                    if self._first in (0, inode):
                        namespace.due = _NOW
        return True

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        """Return a rule that exists or existed; None if unknown, maybe only for now.

        Args:
            netns: inode of the network namespace.
            table, chain, rule: handles.
            at: time of the event; ns, bpf_ktime_get_ns(); None for now.
        """
        found = self._look_up(netns, (table, chain, rule), at or time.monotonic_ns())
        return found if isinstance(found, RuleText) else None

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """Return a chain, now; None if unknown.

        Args:
            netns: inode of the network namespace.
            table, chain: handles.
        """
        found = self._look_up(netns, (table, chain), time.monotonic_ns())
        return found if isinstance(found, ChainText) else None

    def _look_up(
        self, netns: int, handles: tuple[int, ...], at: int
    ) -> RuleText | ChainText | None:
        # Read all notifications up to this event first: the cached rule may have been replaced.
        if at > self._sure and not self.hear():
            return None
        namespace = self._namespaces.get(netns)
        found = namespace.memory.find(handles, at) if namespace else None
        if found is None:
            self.want(netns)
        return found

    def want(self, netns: int) -> None:
        """Request the rules of a namespace: list them when due, and again after changes.

        Args:
            netns: inode of the namespace.
        """
        namespace = self._namespaces.get(netns)
        if namespace is not None and namespace.asked and namespace.due < _NEVER:
            return
        with self._changed:
            if self._stop:
                return
            namespace = self._namespaces.setdefault(netns, _Namespace())
            namespace.asked = True
            namespace.due = min(namespace.due, namespace.listed + _AGAIN)
            os.eventfd_write(self._wake, 1)

    def is_read(self, netns: int, at: int) -> bool:
        """Return whether a listing is running or due, and no complete one is valid after ``at``.

        Args:
            netns: inode of the namespace.
            at: ns, CLOCK_MONOTONIC.
        """
        with self._changed:  # without the lock, a listing that starts now would be neither
            namespace = self._namespaces.get(netns)
            if namespace is None or namespace.memory.listed_at > at:
                return False
            return self._busy == netns or namespace.due < _NEVER

    def wait(self, timeout: float) -> bool:
        """List all requested namespaces again and wait; False after ``timeout`` seconds."""
        with self._changed:
            for each in self._namespaces.values():
                if each.asked:
                    each.due = each.rest = _NOW
            if not self._stop:
                os.eventfd_write(self._wake, 1)
            return self._changed.wait_for(self._is_idle, timeout)

    def wait_listed(self, timeout: float) -> bool:
        """Wait until no listing is due; False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout)

    def _is_idle(self) -> bool:
        due = any(each.due < _NEVER for each in self._namespaces.values())
        return self._stop or not (due or self._busy)

    def hear(self) -> bool:
        """Process notifications of the kernel; False if some are left. Never waits."""
        with self._changed:
            if self._watch is None:
                return True
            began = time.monotonic_ns()
            heard = self._watch.read()
            after, before = self._sure - _TOLD, time.monotonic_ns()
            for inode in heard.gone:  # and may soon be reused
                self._namespaces.pop(inode, None)
            for inode, namespace in self._namespaces.items():
                namespace.heard = heard.generations.get(inode, namespace.heard)
                for commit in heard.commits.get(inode, ()):
                    namespace.changed = commit.generation
                    namespace.memory.tell(commit, after, before)
                    self.changes += bool(commit.replaced)
                if heard.lost:
                    namespace.heard = _UNHEARD
                    namespace.memory.doubt(after, before)
                if namespace.asked and (heard.lost or inode in heard.commits):
                    namespace.due = _NOW
            self.changes += bool(heard.gone or heard.lost)
            if heard.commits or heard.gone or heard.lost:
                self._changed.notify_all()
                os.eventfd_write(self._wake, 1)
            if not heard.partial:
                self._sure = began
            return not heard.partial

    def _work(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        while self._watch is None and not self._stop:
            poll.poll(_LOOK * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            if self._is_there():
                self._listen_to_all()
        for descriptor in self._watch.filenos() if self._watch else ():
            poll.register(descriptor, select.POLLIN)
        while not self._stop:
            self.hear()
            inode, left = self._next()
            if left <= 0:
                self._list(inode)
                continue
            poll.poll(None if left == _NEVER else left * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _next(self) -> tuple[int, float]:
        """Return the namespace to list next, and in how many seconds."""
        with self._changed:
            inode, namespace = min(
                self._namespaces.items(), key=lambda each: each[1].order(), default=(0, None)
            )
            return inode, namespace.when() - time.monotonic() if namespace else _NEVER

    def _list(self, inode: int) -> None:
        with self._changed:
            namespace = self._namespaces.get(inode)
            if namespace is None:
                return
            namespace.listed, namespace.due, self._busy = time.monotonic(), _NEVER, inode
        due = _NEVER
        try:
            due = self._read(inode, namespace)
        except InterruptedError:
            due = _NOW
        except OSError as error:
            self._warn(f"cannot read nftables' rules of namespace {inode}: {error}")
        with self._changed:
            now = time.monotonic()
            namespace.rest = now + max(_LEAST_PAUSE, _PAUSE_SHARE * (now - namespace.listed))
            namespace.due = min(namespace.due, due)
            self._busy = 0
            self._changed.notify_all()

    def _read(self, inode: int, namespace: _Namespace) -> float:
        """List the rules of a namespace; return when to list them again.

        Raises:
            InterruptedError: the ruleset changes faster than it can be listed.
            OSError: the namespace or its rules can't be read.
        """
        try:
            descriptor = self._opener.open(inode)
        except BlockingIOError:
            return self._opener.scan_after
        if descriptor is None:
            return _NEVER
        with owned(descriptor):
            if self._listen(inode, descriptor) is not namespace:
                return _NEVER
            began = time.monotonic_ns()
            listing = self._lister.list(descriptor, namespace.memory.generation)
        if listing is None:
            namespace.memory.confirm(began)
            return _NEVER
        self.hear()
        if not listing.is_whole:
            listing = self._by_changes(listing, namespace)
        if listing.is_whole:
            for fault in listing.faults:
                self._warn(fault)
        namespace.memory.put(listing)
        self.changes += 1
        return _NEVER if listing.is_whole else _NOW

    def _by_changes(self, listing: Listing, namespace: _Namespace) -> Listing:
        """Return what remains valid of a listing during which the ruleset changed.

        Raises:
            InterruptedError: notifications up to the end of the listing are missing.
        """
        end = time.monotonic() + _SOON
        while namespace.heard < listing.generation:
            if time.monotonic() > end:
                raise InterruptedError(4, os.strerror(4))
            time.sleep(0.001)
            self.hear()
        if namespace.changed <= listing.since:  # only set elements changed: texts don't show them
            return listing._replace(is_whole=True)
        texts = {key: text for key, text in listing.texts.items() if key not in listing.by_order}
        return listing._replace(texts=texts)

    def _listen(self, inode: int, descriptor: int) -> _Namespace:
        """Subscribe to changes and to the deletion of a namespace."""
        # Remove an earlier namespace with this inode: RTM_DELNSID came before the inode's reuse.
        self.hear()
        with self._changed:
            assert self._watch is not None
            namespace = self._namespaces.setdefault(inode, _Namespace())
            if self._watch.add(inode, descriptor):
                namespace.memory.since = time.monotonic_ns()
            return namespace
