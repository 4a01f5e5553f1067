"""Inode of a network namespace to the name that ``ip netns`` gave it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FOLDER = "/run/netns"
_RESCAN_SECONDS = 1.0


class Namespaces:
    """Names of network namespaces: the files of /run/netns, read again once a second at most.

    A name outlives its file for one reading, because the last packets of a namespace come after it.

    Args:
        folder: where the files are.
        monotonic: seconds.
    """

    def __init__(
        self, folder: str = _FOLDER, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._names: dict[int, str] = {}
        self._before: dict[int, str] = {}
        self._scan_after = float("-inf")

    def name(self, netns: int) -> str:
        """The name of the namespace of this inode; empty when it has none."""
        now = self._monotonic()
        if now >= self._scan_after:
            self._scan_after = now + _RESCAN_SECONDS
            self._before, self._names = self._names, self._scan()
        return self._names.get(netns) or self._before.get(netns, "")

    def _scan(self) -> dict[int, str]:
        names: dict[int, str] = {}
        try:
            entries = sorted(os.listdir(self._folder))
        except OSError:  # no `ip netns add` since the boot
            return names
        for entry in entries:
            try:
                names[os.stat(f"{self._folder}/{entry}").st_ino] = entry
            except OSError:  # deleted meanwhile
                continue
        return names
