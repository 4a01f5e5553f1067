"""The live table: redrawn about once a second, and at each key."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, ScreenContext
from rich.control import Control

from pypwru.errors import OutputClosed
from pypwru.statistics.top.drawing import drawing
from pypwru.statistics.top.terminal import keys_at_once, pressed
from pypwru.statistics.top.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.statistics.summary import Summary

KEYBOARD = 0
"""Descriptor that keys are read from: standard input."""

_SECONDS = 1.0
_SHARE = 20  # the pause after a summary and its drawing is at least so many times as long


class Top:
    """The table, on the terminal's alternate screen.

    Args:
        summary: returns the summary so far.
        end: called when the user quits.
        monotonic: clock in seconds.
    """

    def __init__(
        self,
        summary: Callable[[], Summary],
        end: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = Console()
        self._summary = summary
        self._end = end
        self._monotonic = monotonic
        self._view = View()
        self._due = monotonic()
        self._now: Summary | None = None
        self._shown: Summary | None = None
        self._size = self._console.size
        self._terminal = ExitStack()
        self._screen: ScreenContext | None = None

    def open(self) -> None:
        """Switch the terminal to the table's mode and screen."""
        self._terminal.enter_context(keys_at_once(KEYBOARD))
        self._screen = self._terminal.enter_context(self._console.screen(hide_cursor=True))

    def close(self) -> None:
        """Restore the terminal; a second call does nothing."""
        self._terminal.close()
        self._screen = None

    def suspend(self) -> None:
        """Restore the terminal and stop the process (Ctrl-Z); draw again after SIGCONT."""
        self.close()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.open()
        self._due = self._monotonic()

    def refresh(self) -> None:
        """Handle pressed keys, and redraw if due.

        Raises:
            OutputClosed: the terminal hung up.
        """
        try:
            keys = pressed(KEYBOARD)
            if not all(self._view.press(key) for key in keys):
                self._end()
            if keys or self._monotonic() >= self._due or self._size != self._console.size:
                self._draw()
        except OSError as error:
            raise OutputClosed() from error

    def _draw(self) -> None:
        began = self._monotonic()
        is_due = self._shown is None or began >= self._due
        if is_due:
            before, self._now = self._now, self._summary()
            self._shown = lately(before, self._now)
        self._size = self._console.size
        assert self._screen, "open() was called"
        assert self._shown, "due at the first call"
        self._console.control(Control.home())
        self._screen.update(drawing(self._shown, self._view, self._size.height))
        if is_due:
            self._due = began + max(_SECONDS, _SHARE * (self._monotonic() - began))


def lately(before: Summary | None, now: Summary) -> Summary:
    """Return ``now`` with rates since ``before``; as it is without one."""
    if before is None:
        return now
    seconds = max(now.seconds - before.seconds, 1e-9)
    hits = {row.function: row.hits for row in before.functions}
    functions = [
        row._replace(rate=(row.hits - hits.get(row.function, 0)) / seconds) for row in now.functions
    ]
    return now._replace(functions=functions, rate=(now.events - before.events) / seconds)


@contextmanager
def opened(summary: Callable[[], Summary], end: Callable[[], None]) -> Iterator[Top]:
    """Open a table, and restore the terminal at the exit of the context.

    Args:
        summary: as of Top.
        end: as of Top.
    """
    made = Top(summary, end)
    try:
        made.open()
        yield made
    finally:
        made.close()
