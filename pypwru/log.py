"""The log and progress bars on standard error, in the format of Go's slog that pwru uses.

``2026/11/23 04:12:08 INFO Attaching kprobes via=kprobe-multi``. Nothing here ever raises: a closed
or full standard error must not end a trace.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TextIO

from pypwru.go_values import format_log_value

if TYPE_CHECKING:
    from collections.abc import Iterator

_BAR_WIDTH = 40
_REDRAW_SECONDS = 0.1
_WRITE_TIMEOUT_SECONDS = 1.0
_MAX_DEFERRED = 1000  # lines: older ones are discarded
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """A progress bar on a line of its own, which each redraw overwrites. Thread-safe.

    Args:
        stream: a terminal, or None to draw nothing.
        total: the count at the end; None to draw the label alone.
        label: what is counted, or the operation in progress.
    """

    def __init__(self, stream: TextIO | None, total: int | None, label: str) -> None:
        self._stream = stream
        self._total = total
        self._label = label
        self._done = 0
        self._drawn_at = -_REDRAW_SECONDS
        self._lock = threading.Lock()  # kprobes are attached by several threads

    def advance(self, count: int = 1) -> None:
        """Add ``count`` to the count; redraws at most ten times a second."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._drawn_at >= _REDRAW_SECONDS:
                self._drawn_at = now
                self.draw()

    def draw(self, end: str = "") -> None:
        """Draw the bar now, followed by ``end``."""
        if self._total is None:
            self._put(f"{_CLEAR_LINE}{self._label}...{end}")
            return
        filled = _BAR_WIDTH * self._done // max(self._total, 1)
        bar = ("#" * filled).ljust(_BAR_WIDTH, ".")
        self._put(f"{_CLEAR_LINE}{self._label} [{bar}] {self._done}/{self._total}{end}")

    def clear(self) -> None:
        """Clear the terminal's line."""
        self._put(_CLEAR_LINE)

    def _put(self, text: str) -> None:
        if self._stream is not None:
            write_unbuffered(self._stream, text)


class Log:
    """Write log lines and progress bars to ``stream``.

    Args:
        stream: standard error, or None when it is closed.
        debug: also write the lines of the level DEBUG.
    """

    def __init__(self, stream: TextIO | None, debug: bool = False) -> None:
        self._stream = stream
        self._debug = debug
        self._progress: Progress | None = None
        self._deferred: deque[str] | None = None

    def debug(self, message: str, **values: object) -> None:
        """Log details for troubleshooting; only with ``--debug``.

        Args:
            message: of the line.
            values: attributes of the line, appended as ``name=value``.
        """
        if self._debug:
            self._line("DEBUG", message, values)

    def info(self, message: str, **values: object) -> None:
        """Log the normal course of the run; arguments as of ``debug``."""
        self._line("INFO", message, values)

    def warn(self, message: str, **values: object) -> None:
        """Log that something is missing from the output; arguments as of ``debug``."""
        self._line("WARN", message, values)

    def error(self, message: str, **values: object) -> None:
        """Log an error that ends the run; arguments as of ``debug``."""
        self._line("ERROR", message, values)

    def write_text(self, lines: str) -> None:
        """Write ``lines`` as they are, without time and level, such as a report."""
        self._put(lines)

    @contextlib.contextmanager
    def deferred_on_tty(self) -> Iterator[None]:
        """Defer all lines until the way out if standard error is a terminal (--top draws on it)."""
        self._deferred = deque(maxlen=_MAX_DEFERRED) if self.is_tty else None
        try:
            yield
        finally:
            deferred, self._deferred = self._deferred, None
            self._put("".join(deferred or ()))

    @contextlib.contextmanager
    def progress(self, total: int, label: str) -> Iterator[Progress]:
        """Show a progress bar until the way out, if standard error is a terminal.

        Args:
            total: the count at the end.
            label: what is counted.

        Yields:
            The bar, to be advanced.
        """
        bar = self._progress = Progress(self._stream if self.is_tty else None, total, label)
        bar.draw()
        try:
            yield bar
        finally:
            bar.draw(end="\n")
            self._progress = None

    @contextlib.contextmanager
    def operation(self, label: str) -> Iterator[None]:
        """Show the operation ``label`` until the way out, if standard error is a terminal."""
        step = self._progress = Progress(self._stream if self.is_tty else None, None, label)
        step.draw()
        try:
            yield
        finally:
            step.clear()
            self._progress = None

    @property
    def is_tty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def _line(self, level: str, message: str, values: dict[str, object]) -> None:
        if self._stream is None:
            return
        if self._progress is not None:
            self._progress.clear()
        now = time.strftime("%Y/%m/%d %H:%M:%S")
        pairs = "".join(f" {name}={format_log_value(value)}" for name, value in values.items())
        self._put(f"{now} {level} {message}{pairs}\n")

    def _put(self, text: str) -> None:
        if self._deferred is not None:
            self._deferred.append(text)
        else:
            write_unbuffered(self._stream, text)


def write_unbuffered(stream: TextIO | None, text: str) -> None:
    """Write ``text`` unbuffered; errors are ignored.

    A write error of Python's buffer would recur in the flush at exit and change the exit status
    to 120.

    Args:
        stream: standard error or output; None when it was closed.
        text: characters that can't be encoded are escaped with a backslash.
    """
    if stream is None:
        return
    # ValueError: the stream was closed, or (io.UnsupportedOperation) has no file descriptor.
    with contextlib.suppress(OSError, ValueError):
        try:
            descriptor = stream.fileno()
        except io.UnsupportedOperation:
            stream.write(text)
        else:
            _write(descriptor, text.encode(errors="backslashreplace"))


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # a process that shares the terminal made it non-blocking
            if not select.select([], [descriptor], [], _WRITE_TIMEOUT_SECONDS)[1]:
                return
