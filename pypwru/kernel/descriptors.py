"""File descriptors: closed in time, and as many as there is room for."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def allow_many() -> None:
    """Up to the hard limit: a program and a link for each function are more than the usual 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cure(error: OSError, otherwise: str) -> str:
    """What to do about ``error``; ``otherwise`` unless this process has too many open files."""
    if error.errno != errno.EMFILE:
        return otherwise
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"raise the limit of {most} open files: ulimit -n {max(4 * most, 4096)}"


@contextmanager
def owned(fd: int) -> Iterator[int]:
    """Close ``fd`` on the way out."""
    try:
        yield fd
    finally:
        os.close(fd)
