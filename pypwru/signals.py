"""The stop request, by SIGINT, SIGTERM, SIGHUP or a call: a question, and a descriptor to wait on.

And signals that ask for something else: they are looked for between batches, and stop nothing.
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

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_REQUEST = 1.0  # seconds: timeout(1) signals its child, and then the group that it is in


class Interrupts:
    """Whether the user wants the end.

    Args:
        fd: becomes readable when a signal came, or a call.
        monotonic: seconds.
    """

    def __init__(self, fd: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.fd = fd
        self.received = False
        self._monotonic = monotonic
        self._first = 0.0  # when the first signal came

    def requested(self) -> bool:
        """True once the end is wanted."""
        return self.received

    def want_end(self) -> None:
        """Want the end from between two batches, where nobody waits."""
        self.received = True

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        # A later signal means that the polite way takes too long (a compiler can't be asked).
        now = self._monotonic()
        if not self.received:
            self.received, self._first = True, now
        elif now - self._first > _SAME_REQUEST:
            raise KeyboardInterrupt


@contextmanager
def interrupts(monotonic: Callable[[], float] = time.monotonic) -> Iterator[Interrupts]:
    """Catch the signals until the way out; not SIGHUP under nohup(1), which has it ignored.

    Args:
        monotonic: as of Interrupts.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    found = Interrupts(reading, monotonic)
    old_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    has_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    caught = [each for each in _STOPPING if each is not signal.SIGHUP or not has_nohup]
    old = {number: signal.signal(number, found._note) for number in caught}
    try:
        yield found
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        os.close(reading)
        os.close(writing)


class Call(Interrupts):
    """The same without signals, which are a script's own.

    Args:
        fd: an eventfd.
    """

    def request(self) -> None:
        """Want the end; from any thread, or a handler of signals."""
        self.received = True
        os.eventfd_write(self.fd, 1)


@contextmanager
def call() -> Iterator[Call]:
    """A wish that can be uttered until the way out."""
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        yield Call(fd)
    finally:
        os.close(fd)


@contextmanager
def kept_back(*numbers: signal.Signals) -> Iterator[Callable[[], signal.Signals | None]]:
    """Have the kernel keep signals until they are asked for, one at a time, until the way out.

    No handler, since that would make the descriptor of ``interrupts`` readable. Threads that are
    made meanwhile inherit it, so that none of them gets a signal by which the process would die.

    Yields:
        The next one that came, or None.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def take() -> signal.Signals | None:
        found = signal.sigtimedwait(numbers, 0)
        return signal.Signals(found.si_signo) if found else None

    try:
        yield take
    finally:
        for number in numbers:  # who asks so late must not kill
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
