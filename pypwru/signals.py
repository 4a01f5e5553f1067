"""Stop requests, by SIGINT, SIGTERM, SIGHUP or a call: a flag to test and a descriptor to poll.

Also signals with another meaning (SIGUSR1, SIGTSTP), which are blocked and fetched between batches.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DUPLICATE_SECONDS = 1.0  # seconds: timeout(1) signals its child, and then its own process group


class StopRequest:
    """A stop request by a signal.

    Args:
        fd: becomes readable on a stop request; the caller closes it.
        monotonic: clock, in seconds.

    Attributes:
        received: whether stopping was requested.
    """

    def __init__(self, fd: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.fd = fd
        self.received = False
        self._monotonic = monotonic
        self._first_at = 0.0  # when the first signal came

    def requested(self) -> bool:
        """Return whether stopping was requested."""
        return self.received

    def request_stop(self) -> None:
        """Request a stop from code that runs between two batches, where nothing polls ``fd``."""
        self.received = True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # A second signal means that the orderly stop takes too long: abort what can't be
        # interrupted otherwise, such as the compiler.
        now = self._monotonic()
        if not self.received:
            self.received, self._first_at = True, now
        elif now - self._first_at > _DUPLICATE_SECONDS:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals(monotonic: Callable[[], float] = time.monotonic) -> Iterator[StopRequest]:
    """Catch SIGINT, SIGTERM and SIGHUP until the way out; not SIGHUP if nohup(1) ignores it.

    Args:
        monotonic: clock, in seconds.

    Yields:
        The stop request, valid until the way out.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stop_request = StopRequest(reading, monotonic)
    old_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    has_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handled = [each for each in _STOP_SIGNALS if each is not signal.SIGHUP or not has_nohup]
    old = {number: signal.signal(number, stop_request._on_signal) for number in handled}
    try:
        yield stop_request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        os.close(reading)
        os.close(writing)


class ManualStop(StopRequest):
    """A stop request by a call, for scripts: it installs no signal handler.

    Args:
        fd: an eventfd; the caller closes it.
    """

    def request(self) -> None:
        """Request a stop; from any thread or signal handler."""
        self.received = True
        os.eventfd_write(self.fd, 1)


@contextmanager
def manual_stop() -> Iterator[ManualStop]:
    """Open a stop request by a call, valid until the way out."""
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        yield ManualStop(fd)
    finally:
        os.close(fd)


@contextmanager
def blocked_signals(*numbers: signal.Signals) -> Iterator[Callable[[], signal.Signals | None]]:
    """Block signals until the way out and fetch pending ones on demand.

    A handler is no alternative: it would make the descriptor of ``stop_on_signals`` readable.
        Threads
    started meanwhile inherit the mask, so that none of them gets a signal that would kill the
    process.

    Args:
        numbers: the signals.

    Yields:
        A function that returns the next pending signal, or None.
    """
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def next_pending() -> signal.Signals | None:
        info = signal.sigtimedwait(numbers, 0)
        return signal.Signals(info.si_signo) if info else None

    try:
        yield next_pending
    finally:
        # A signal that arrives after this point finds SIG_DFL and would kill the process: ignore
        # it instead.
        for number in numbers:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
