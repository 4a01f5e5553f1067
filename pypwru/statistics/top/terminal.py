"""The user's terminal: keys one by one, and as it was on every way out."""

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
    """Make sure that there is one to draw on, and to read keys from.

    Raises:
        UsageError: there is none.
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
    except ValueError:  # it was closed
        return False


@contextmanager
def keys_at_once(descriptor: int) -> Iterator[None]:
    """Neither wait for the end of a line nor echo, until the way out; Ctrl-C and Ctrl-Z still are
    signals.
    """
    before = termios.tcgetattr(descriptor)
    raw = termios.tcgetattr(descriptor)
    raw[3] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, raw)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def pressed(descriptor: int) -> str:
    """The keys that were pressed and not read yet; no letter where there are none.

    Raises:
        OSError: the terminal is gone.
    """
    if not select.select([descriptor], [], [], 0)[0]:
        return ""
    octets = os.read(descriptor, 256)
    if not octets:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return octets.decode(errors="replace")
