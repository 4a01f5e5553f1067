"""A file descriptor as a context manager."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def owned(fd: int) -> Iterator[int]:
    """Close ``fd`` on the way out."""
    try:
        yield fd
    finally:
        os.close(fd)
