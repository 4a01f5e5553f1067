"""File descriptors: scoped closing, and the limit of open files."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def raise_nofile_limit() -> None:
    """Raise RLIMIT_NOFILE to the hard limit: a program and a link per function exceed 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close ``fd`` on exit from the context."""
    try:
        yield fd
    finally:
        os.close(fd)
