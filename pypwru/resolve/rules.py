"""Handles of nftables to the text of rules and the names of chains, also of what changes.

A look-up never waits: it says what is known and has a thread find out the rest.
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
# After a listing: for the rest of what changes, and not more than a part of one processor.
_LEAST_PAUSE = 0.01
_PAUSE_SHARE = 3
# ns in which the kernel tells of rules once they are in use, however busy the machine.
_TOLD = 1_000_000_000
_SOON = 0.1  # in which the kernel has told of a change that is in use, mostly
_AGAIN = 1.0  # for a handle that the last listing didn't have
_LOOK = 0.5  # whether nf_tables has come
_UNHEARD = -1  # no number of a generation


class _Namespace:
    """One that is listened to, or was asked for; times are seconds, of the monotonic clock."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.heard = _UNHEARD  # number of the ruleset's generation that was told of last
        self.changed = _UNHEARD  # the same, of the last that has other rules
        self.asked = False
        self.due = _NEVER  # when to list its rules
        self.listed = _NOW  # when that was tried last
        self.rest = _NOW  # it isn't tried again before

    def when(self) -> float:
        return max(self.due, self.rest)

    def order(self) -> tuple[float, bool]:
        """The least is listed first: of those that are due those that were asked for."""
        return self.when(), not self.asked


class Rules:
    """Texts of rules and names of chains.

    From its start it listens to all namespaces, and lists their rules, or those of one. After the
    first question for a namespace its rules are listed again when the kernel tells of a change,
    and, once a second at most, when a handle is asked for that isn't known. What spoke before its
    namespace was listened to is not told: its handle may have been another's. Only what appears
    later than the start can speak so early.

    Args:
        warn: told, once each, what keeps texts from being known; from another thread.
        is_there: whether the kernel has nf_tables. Until then it is not asked for anything, since
            that would load it.
        netns: inode of the namespace whose rules are listed at the start; 0 for all.
    """

    def __init__(
        self,
        warn: Callable[[str], None] = lambda message: None,
        is_there: Callable[[], bool] = lambda: True,
        netns: int = 0,
    ) -> None:
        self.changes = 0  # grows whenever any answer may be another than before
        self._warn = functools.cache(warn)  # nothing is said twice
        self._is_there = is_there
        self._first = netns
        self._opener = Opener()
        self._lister = Lister()
        self._namespaces: dict[int, _Namespace] = {}
        self._watch: Watch | None = None
        self._changed = threading.Condition()  # of all that is here; never held for long
        self._sure = 0  # nothing that was told before is unheard; CLOCK_MONOTONIC, ns
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
        """End the thread; what is known stays so."""
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
        """Be told of changes in every namespace; False, which is said, where that can't be."""
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
                # A failure is told when somebody asks for the namespace.
                with owned(descriptor), contextlib.suppress(OSError):
                    namespace = self._listen(inode, descriptor)
                    if self._first in (0, inode):
                        namespace.due = _NOW
        return True

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        """A rule that is or was; None: not known, or not yet.

        Args:
            netns: inode of the namespace; the others are handles.
            at: when it spoke, as bpf_ktime_get_ns() has it; None for now.
        """
        found = self._look_up(netns, (table, chain, rule), at or time.monotonic_ns())
        return found if isinstance(found, RuleText) else None

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """A chain, as ``rule``."""
        found = self._look_up(netns, (table, chain), time.monotonic_ns())
        return found if isinstance(found, ChainText) else None

    def _look_up(
        self, netns: int, handles: tuple[int, ...], at: int
    ) -> RuleText | ChainText | None:
        # What changed before this event is heard first, so that nothing of before is said of it.
        if at > self._sure and not self.hear():
            return None
        namespace = self._namespaces.get(netns)
        found = namespace.memory.find(handles, at) if namespace else None
        if found is None:
            self.want(netns)
        return found

    def want(self, netns: int) -> None:
        """Something in this namespace isn't known, or soon will be asked for."""
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
        """Whether rules are being read, or about to be, of which none were read since.

        Args:
            netns: inode of the namespace.
            at: ns of CLOCK_MONOTONIC.
        """
        with self._changed:  # between the two is neither
            namespace = self._namespaces.get(netns)
            if namespace is None or namespace.memory.listed_at > at:
                return False
            return self._busy == netns or namespace.due < _NEVER

    def wait(self, timeout: float) -> bool:
        """Until all that was asked for is known as it is now; False: not within ``timeout`` s."""
        with self._changed:
            for each in self._namespaces.values():
                if each.asked:
                    each.due = each.rest = _NOW
            if not self._stop:
                os.eventfd_write(self._wake, 1)
            return self._changed.wait_for(self._is_idle, timeout)

    def wait_listed(self, timeout: float) -> bool:
        """Until all is listed that is to be; False: not within ``timeout`` s."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout)

    def _is_idle(self) -> bool:
        due = any(each.due < _NEVER for each in self._namespaces.values())
        return self._stop or not (due or self._busy)

    def hear(self) -> bool:
        """Take in what the kernel told of changes; False if there is more. Never waits."""
        with self._changed:
            if self._watch is None:
                return True
            began = time.monotonic_ns()
            heard = self._watch.read()
            after, before = self._sure - _TOLD, time.monotonic_ns()
            for inode in heard.gone:  # and its number may be another's soon
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
        """Which namespace to list next, and in how many seconds."""
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
        """List its rules; when to do so again."""
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
        """What is right of a listing during which the ruleset changed, by what changed.

        Raises:
            InterruptedError: the kernel hasn't told of that.
        """
        end = time.monotonic() + _SOON
        while namespace.heard < listing.generation:
            if time.monotonic() > end:
                raise InterruptedError(4, os.strerror(4))
            time.sleep(0.001)
            self.hear()
        if namespace.changed <= listing.since:  # elements of sets, on which no rule's text depends
            return listing._replace(is_whole=True)
        texts = {key: text for key, text in listing.texts.items() if key not in listing.by_order}
        return listing._replace(texts=texts)

    def _listen(self, inode: int, descriptor: int) -> _Namespace:
        """Be told of changes in a namespace, and of its end."""
        # Whoever had this inode before was told to be gone before the inode was given again.
        self.hear()
        with self._changed:
            assert self._watch is not None
            namespace = self._namespaces.setdefault(inode, _Namespace())
            if self._watch.add(inode, descriptor):
                namespace.memory.since = time.monotonic_ns()
            return namespace
