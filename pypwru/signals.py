"""SIGINT and SIGTERM as a question to ask and a descriptor to wait on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Whether the user wants the end.

    Args:
        fd: becomes readable when a signal came.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.received = False

    def requested(self) -> bool:
        """True once a signal came."""
        return self.received

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        # A second signal means that the polite way takes too long (a compiler can't be asked).
        if self.received:
            raise KeyboardInterrupt
        self.received = True


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Catch the signals until the way out."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    found = Interrupts(reading)
    old_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    old = {number: signal.signal(number, found._note) for number in _STOPPING}
    try:
        yield found
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        os.close(reading)
        os.close(writing)
