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

from pypwru.fds import closing_fd
from pypwru.kernel.netns_opener import NetnsOpener
from pypwru.nft.generations import GenerationReader
from pypwru.nft.list_ruleset import RulesetLister, RulesetSnapshot
from pypwru.nft.monitor import RulesetMonitor
from pypwru.nft.namespace_state import NEVER, NO_GENERATION, NOW, NamespaceState
from pypwru.nft.ruleset import ChainText, RuleText

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Pause after a listing: at least so many seconds, to batch further changes; and so many times the
# duration of the listing, to limit the use of CPU.
_MIN_PAUSE = 0.01
_PAUSE_FACTOR = 3
# ns from a commit's taking effect to its notification's being readable, in most cases: assumed for
# namespaces whose generation can't be read.
_NOTIFY_DELAY = 100_000_000
_NOTIFY_TIMEOUT = 0.1  # seconds of waiting for notifications of a listed generation
_CURRENT_POLL = 0.01  # seconds between looks of wait_current
_RETRY_INTERVAL = 1.0  # seconds between listings for handles that the last one didn't have
_LOAD_POLL_INTERVAL = 0.5  # seconds between checks whether nf_tables is loaded


class RuleService:
    """Service for texts of rules and names of chains, with a thread between enter and ``close``.

    From the start it monitors all network namespaces, and lists the rules of all or of one. After
    the first request for a namespace, its rules are listed again when the kernel notifies of a
    change, and at most once a second for an unknown handle. Events from before a namespace was
    subscribed are not resolved, since the handle may have been reused. This affects only
    namespaces created after the start.

    Args:
        warn: logs a reason for missing texts, each once; mostly called from the thread.
        has_nf_tables: returns whether the kernel has nf_tables. Until it has, no netlink message is
            sent to nf_tables, since that would load the module.
        netns: inode of the namespace whose rules are listed at the start; 0 for all.

    Attributes:
        revision: grows whenever an answer may differ from an earlier one.
    """

    def __init__(
        self,
        warn: Callable[[str], None] = lambda message: None,
        has_nf_tables: Callable[[], bool] = lambda: True,
        netns: int = 0,
    ) -> None:
        self.revision = 0
        self._warn = functools.cache(warn)  # each message once
        self._has_nf_tables = has_nf_tables
        self._initial_netns = netns
        self._opener = NetnsOpener()
        self._lister = RulesetLister()
        self._namespaces: dict[int, NamespaceState] = {}
        self._monitor: RulesetMonitor | None = None
        self._condition = threading.Condition()  # guards all attributes; never held for long
        self._processed_until = 0  # all notifications up to then are processed; ns, CLOCK_MONOTONIC
        self._wake_fd = -1  # an eventfd
        self._thread: threading.Thread | None = None
        self._generations: GenerationReader | None = None
        self._listing_inode = 0  # inode of the namespace whose rules are being listed; 0 for none
        self._stop = False

    def __enter__(self) -> RuleService:
        if self._has_nf_tables() and not self._subscribe_all():
            return self
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="pypwru-rules", daemon=True)
        self._thread.start()
        self._generations = GenerationReader(self._opener.open, self._process_generation)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; look-ups keep working on what is cached."""
        with self._condition:
            self._stop = True
            self._condition.notify_all()
        if self._thread is None:
            return
        self._lister.close()
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._thread = None
        if self._generations is not None:
            self._generations.close()
            self._generations = None
        os.close(self._wake_fd)
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def _subscribe_all(self) -> bool:
        """Subscribe to changes in every namespace; if that fails, warn and return False."""
        try:
            monitor = RulesetMonitor()
        except OSError as error:
            self._warn(f"nftables' rules are shown without their text: {error.strerror}")
            with self._condition:
                self._stop = True
                self._condition.notify_all()
            return False
        with self._condition:
            self._monitor = monitor
        for inode in self._opener.scan():
            descriptor = self._opener.open(inode)
            if descriptor is not None:
                # A failure is logged at the first request for the namespace.
                with closing_fd(descriptor), contextlib.suppress(OSError):
                    namespace = self._subscribe(inode, descriptor)
                    if self._initial_netns in (0, inode):
                        namespace.due = NOW
        return True

    def rule(
        self, netns: int, table: int, chain: int, rule: int, at: int | None = None
    ) -> RuleText | None:
        """Return a rule that exists or existed; None if unknown, maybe only for now.

        Args:
            netns: inode of the network namespace.
            table: handle of the table.
            chain: handle of the chain.
            rule: handle of the rule.
            at: time of the event; ns, bpf_ktime_get_ns(); None for now.
        """
        found = self._look_up(netns, (table, chain, rule), at or time.monotonic_ns())
        return found if isinstance(found, RuleText) else None

    def chain(self, netns: int, table: int, chain: int) -> ChainText | None:
        """Return a chain, now; None if unknown.

        Args:
            netns: inode of the network namespace.
            table: handle of the table.
            chain: handle of the chain.
        """
        found = self._look_up(netns, (table, chain), time.monotonic_ns())
        return found if isinstance(found, ChainText) else None

    def _look_up(
        self, netns: int, handles: tuple[int, ...], at: int
    ) -> RuleText | ChainText | None:
        # Read all notifications up to this event first: the cached rule may have been replaced.
        if at > self._processed_until and not self.poll():
            return None
        namespace = self._namespaces.get(netns)
        found = namespace.history.find(handles, at) if namespace else None
        if found is None:
            self.request(netns)
        return found

    def request(self, netns: int) -> None:
        """Request the rules of a namespace: list them when due, and again after changes.

        Args:
            netns: inode of the namespace.
        """
        namespace = self._namespaces.get(netns)
        if namespace is not None and namespace.is_requested and namespace.due < NEVER:
            return
        with self._condition:
            if self._stop:
                return
            namespace = self._namespaces.setdefault(netns, NamespaceState())
            namespace.is_requested = True
            namespace.due = min(namespace.due, namespace.last_listing + _RETRY_INTERVAL)
            os.eventfd_write(self._wake_fd, 1)

    def is_listing_pending(self, netns: int, at: int) -> bool:
        """Return whether a listing is running or due, and no complete one is valid after ``at``.

        Args:
            netns: inode of the namespace.
            at: ns, CLOCK_MONOTONIC.
        """
        with self._condition:  # without the lock, a listing that starts now would be neither
            namespace = self._namespaces.get(netns)
            if namespace is None or namespace.history.valid_until > at:
                return False
            return self._listing_inode == netns or namespace.due < NEVER

    def is_current(self, netns: int, at: int) -> bool:
        """Return whether all changes up to ``at`` are known; if not, the generation is read, soon.

        Otherwise a look-up may return the rule that had the handles before. Where the generation
        can't be read, changes count as known a tenth of a second later. Never waits.

        Args:
            netns: inode of the namespace.
            at: ns, CLOCK_MONOTONIC.
        """
        with self._condition:
            namespace = self._namespaces.get(netns)
            # Without a last generation, rules weren't listed yet, or not since notifications were
            # lost: a look-up has no result for a later time than `current_until`.
            if (
                namespace is None
                or self._generations is None
                or at <= namespace.current_until
                or namespace.last_generation == NO_GENERATION
            ):
                return True
            self._generations.request(netns)
            is_late = time.monotonic_ns() >= at + _NOTIFY_DELAY
            return namespace.is_unreachable and is_late and self.poll()

    def wait_current(self, times: Mapping[int, int], timeout: float) -> bool:
        """Wait until all changes up to given times are known; False after ``timeout`` seconds.

        Args:
            times: inode of a namespace -> ns, CLOCK_MONOTONIC.
            timeout: seconds.
        """
        end = time.monotonic() + timeout
        with self._condition:
            while [netns for netns, at in times.items() if not self.is_current(netns, at)]:
                if time.monotonic() >= end:
                    return False
                self._condition.wait(_CURRENT_POLL)
            return True

    def _process_generation(self, inode: int, moment: int, generation: int | None) -> None:
        self.poll()
        with self._condition:
            namespace = self._namespaces.get(inode)
            if namespace is None or self._stop:
                return
            namespace.is_unreachable = generation is None
            if generation is not None and not namespace.confirm(generation, moment):
                self.request(inode)  # a listing ends this, even if no notification comes
            self._condition.notify_all()

    def relist(self, timeout: float) -> bool:
        """List all requested namespaces again and wait; False after ``timeout`` seconds."""
        with self._condition:
            for each in self._namespaces.values():
                if each.is_requested:
                    each.due = each.not_before = NOW
            if not self._stop:
                os.eventfd_write(self._wake_fd, 1)
            return self._condition.wait_for(self._is_idle, timeout)

    def wait_listed(self, timeout: float) -> bool:
        """Wait until no listing is due; False after ``timeout`` seconds."""
        with self._condition:
            return self._condition.wait_for(self._is_idle, timeout)

    def _is_idle(self) -> bool:
        due = any(each.due < NEVER for each in self._namespaces.values())
        return self._stop or not (due or self._listing_inode)

    def poll(self) -> bool:
        """Process notifications of the kernel; False if some are left. Never waits."""
        with self._condition:
            if self._monitor is None:
                return True
            began = time.monotonic_ns()
            changes = self._monitor.read()
            end = time.monotonic_ns()
            for inode in changes.deleted_namespaces:  # and may soon be reused
                self._namespaces.pop(inode, None)
            for inode, namespace in self._namespaces.items():
                namespace.last_generation = changes.generations.get(
                    inode, namespace.last_generation
                )
                for commit in changes.commits.get(inode, ()):
                    namespace.last_rule_generation = commit.generation
                    start = namespace.earliest_change(self._processed_until)
                    namespace.history.record_commit(commit, start, end)
                    self.revision += bool(commit.replaced)
                if changes.has_overflowed:
                    namespace.last_generation = NO_GENERATION
                    start = namespace.earliest_change(self._processed_until)
                    namespace.history.mark_uncertain(start, end)
                if namespace.is_requested and (changes.has_overflowed or inode in changes.commits):
                    namespace.due = NOW
            self.revision += bool(changes.deleted_namespaces or changes.has_overflowed)
            if changes.commits or changes.deleted_namespaces or changes.has_overflowed:
                self._condition.notify_all()
                os.eventfd_write(self._wake_fd, 1)
            if not changes.is_partial:
                self._processed_until = began
            return not changes.is_partial

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        while self._monitor is None and not self._stop:
            poll.poll(_LOAD_POLL_INTERVAL * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
            if self._has_nf_tables():
                self._subscribe_all()
        for descriptor in self._monitor.filenos() if self._monitor else ():
            poll.register(descriptor, select.POLLIN)
        while not self._stop:
            self.poll()
            inode, seconds_left = self._next_namespace()
            if seconds_left <= 0:
                self._list_due(inode)
                continue
            poll.poll(None if seconds_left == NEVER else seconds_left * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)

    def _next_namespace(self) -> tuple[int, float]:
        """Return the namespace to list next, and in how many seconds."""
        with self._condition:
            inode, namespace = min(
                self._namespaces.items(), key=lambda each: each[1].sort_key(), default=(0, None)
            )
            return inode, namespace.due_time() - time.monotonic() if namespace else NEVER

    def _list_due(self, inode: int) -> None:
        with self._condition:
            namespace = self._namespaces.get(inode)
            if namespace is None:
                return
            namespace.last_listing, namespace.due, self._listing_inode = (
                time.monotonic(),
                NEVER,
                inode,
            )
        due = NEVER
        try:
            due = self._list_namespace(inode, namespace)
        except InterruptedError:
            due = NOW
        except OSError as error:
            self._warn(f"cannot read nftables' rules of namespace {inode}: {error}")
        with self._condition:
            now = time.monotonic()
            namespace.not_before = now + max(
                _MIN_PAUSE, _PAUSE_FACTOR * (now - namespace.last_listing)
            )
            namespace.due = min(namespace.due, due)
            self._listing_inode = 0
            self._condition.notify_all()

    def _list_namespace(self, inode: int, namespace: NamespaceState) -> float:
        """List the rules of a namespace; return when to list them again.

        Raises:
            InterruptedError: the ruleset changes faster than it can be listed.
            OSError: the namespace or its rules can't be read.
        """
        try:
            descriptor = self._opener.open(inode)
        except BlockingIOError:
            return self._opener.next_scan
        if descriptor is None:
            return NEVER
        with closing_fd(descriptor):
            if self._subscribe(inode, descriptor) is not namespace:
                return NEVER
            began, known_generation = time.monotonic_ns(), namespace.history.generation
            listing = self._lister.list(descriptor, known_generation)
        if listing is None:
            namespace.history.extend_validity(began)
            with self._condition:
                namespace.confirm(known_generation, began)
            return NEVER
        self._catch_up(namespace, listing, began)
        if not listing.is_complete:
            listing = self._without_uncertain_texts(listing, namespace)
        if listing.is_complete:
            for fault in listing.faults:
                self._warn(fault)
        namespace.history.add_snapshot(listing)
        self.revision += 1
        return NEVER if listing.is_complete else NOW

    def _catch_up(self, namespace: NamespaceState, listing: RulesetSnapshot, moment: int) -> None:
        """Process all notifications up to the first generation of a listing.

        All of them were sent before the listing began.

        Args:
            namespace: that was listed.
            listing: of it.
            moment: before the first generation was read; ns, CLOCK_MONOTONIC.

        Raises:
            InterruptedError: there are too many.
        """
        generation, end = listing.start_generation, time.monotonic() + _NOTIFY_TIMEOUT
        while not self.poll() and namespace.last_generation < generation:
            if time.monotonic() > end:
                raise InterruptedError(4, os.strerror(4))
            time.sleep(0.001)
        with self._condition:
            if namespace.last_generation < generation:
                if namespace.last_generation != NO_GENERATION:  # some were lost
                    namespace.history.mark_uncertain(namespace.current_until, listing.began)
                namespace.last_generation = generation
            namespace.confirm(generation, moment)

    def _without_uncertain_texts(
        self, listing: RulesetSnapshot, namespace: NamespaceState
    ) -> RulesetSnapshot:
        """Return what remains valid of a listing during which the ruleset changed.

        Raises:
            InterruptedError: notifications up to the end of the listing are missing.
        """
        end = time.monotonic() + _NOTIFY_TIMEOUT
        while namespace.last_generation < listing.generation:
            if time.monotonic() > end:
                raise InterruptedError(4, os.strerror(4))
            time.sleep(0.001)
            self.poll()
        if (
            namespace.last_rule_generation <= listing.start_generation
        ):  # only set elements changed: texts don't show them
            return listing._replace(is_complete=True)
        texts = {
            key: text for key, text in listing.texts.items() if key not in listing.assigned_by_order
        }
        return listing._replace(texts=texts)

    def _subscribe(self, inode: int, descriptor: int) -> NamespaceState:
        """Subscribe to changes and to the deletion of a namespace."""
        # Remove an earlier namespace with this inode: RTM_DELNSID came before the inode's reuse.
        self.poll()
        with self._condition:
            assert self._monitor is not None
            namespace = self._namespaces.setdefault(inode, NamespaceState())
            if self._monitor.subscribe(inode, descriptor):
                namespace.history.subscribed_at = time.monotonic_ns()
            return namespace
