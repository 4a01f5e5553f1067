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
from pypwru.statistics.top.drawing import render_screen
from pypwru.statistics.top.terminal import cbreak_mode, read_keys
from pypwru.statistics.top.view import TableView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.statistics.summary import Summary

KEYBOARD = 0
"""Descriptor that keys are read from: standard input."""

_REDRAW_INTERVAL = 1.0
_PAUSE_FACTOR = 20  # the pause after a summary and its drawing is at least so many times as long


class LiveTable:
    """The table, on the terminal's alternate screen.

    Args:
        summary: returns the summary so far.
        request_stop: called when the user quits.
        monotonic: clock in seconds.
    """

    def __init__(
        self,
        summary: Callable[[], Summary],
        request_stop: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = Console()
        self._summary = summary
        self._request_stop = request_stop
        self._monotonic = monotonic
        self._view = TableView()
        self._due = monotonic()
        self._latest: Summary | None = None
        self._drawn: Summary | None = None
        self._size = self._console.size
        self._terminal = ExitStack()
        self._screen: ScreenContext | None = None

    def open(self) -> None:
        """Switch the terminal to the table's mode and screen."""
        self._terminal.enter_context(cbreak_mode(KEYBOARD))
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
            keys = read_keys(KEYBOARD)
            if not all(self._view.handle_key(key) for key in keys):
                self._request_stop()
            if keys or self._monotonic() >= self._due or self._size != self._console.size:
                self._draw()
        except OSError as error:
            raise OutputClosed() from error

    def _draw(self) -> None:
        began = self._monotonic()
        is_due = self._drawn is None or began >= self._due
        if is_due:
            previous, self._latest = self._latest, self._summary()
            self._drawn = with_recent_rates(previous, self._latest)
        self._size = self._console.size
        assert self._screen, "open() was called"
        assert self._drawn, "due at the first call"
        self._console.control(Control.home())
        self._screen.update(render_screen(self._drawn, self._view, self._size.height))
        if is_due:
            self._due = began + max(_REDRAW_INTERVAL, _PAUSE_FACTOR * (self._monotonic() - began))


def with_recent_rates(previous: Summary | None, latest: Summary) -> Summary:
    """Return ``latest`` with rates since ``previous``; as it is without one."""
    if previous is None:
        return latest
    seconds = max(latest.seconds - previous.seconds, 1e-9)
    hits = {row.function: row.hits for row in previous.functions}
    functions = [
        row._replace(rate=(row.hits - hits.get(row.function, 0)) / seconds)
        for row in latest.functions
    ]
    return latest._replace(functions=functions, rate=(latest.events - previous.events) / seconds)


@contextmanager
def open_table(
    summary: Callable[[], Summary], request_stop: Callable[[], None]
) -> Iterator[LiveTable]:
    """Open a table, and restore the terminal at the exit of the context.

    Args:
        summary: as of Top.
        request_stop: as of Top.
    """
    table = LiveTable(summary, request_stop)
    try:
        table.open()
        yield table
    finally:
        table.close()
