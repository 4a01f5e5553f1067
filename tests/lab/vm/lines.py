"""Lines from a pipe, as long as they come."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import IO


class Hung(Exception):
    """No line came for too long."""


def lines(pipe: IO[str], silence: float) -> Iterator[str]:
    """Yield each line that is written into ``pipe``, until all writers have closed it.

    Raises:
        Hung: there was none for ``silence`` seconds.
    """
    kept = b""
    while select.select([pipe], [], [], silence)[0]:
        chunk = os.read(pipe.fileno(), 1 << 16)
        if not chunk:
            return
        *whole, kept = (kept + chunk).split(b"\n")
        yield from (line.decode() for line in whole)
    raise Hung
