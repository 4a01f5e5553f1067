"""The user's terminal: read keys without waiting for Enter, and restore its mode."""

from __future__ import annotations

import errno
import os
import select
import sys
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from pypwru.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def require_terminal() -> None:
    """Check that standard input and output are terminals.

    Raises:
        UsageError: one isn't.
    """
    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if not _is_terminal(stream):
            raise UsageError(
                f"--top draws a table on a terminal, and {name} is none: take --stats, which "
                "prints it at the end, on SIGUSR1 and every --stats-interval"
            )


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # the stream is closed
        return False


@contextmanager
def cbreak_mode(descriptor: int) -> Iterator[None]:
    """Switch off ICANON and ECHO of a terminal until the context exits (cbreak mode).

    Ctrl-C and Ctrl-Z still send signals.
    """
    saved = termios.tcgetattr(descriptor)
    raw = termios.tcgetattr(descriptor)
    raw[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, raw)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)


def read_keys(descriptor: int) -> str:
    """Return the keys that were pressed since the last call, "" for none; never waits.

    Raises:
        OSError: the terminal hung up.
    """
    if not select.select([descriptor], [], [], 0)[0]:
        return ""
    data = os.read(descriptor, 256)
    if not data:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return data.decode(errors="replace")
