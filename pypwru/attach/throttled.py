"""Functions that were hit more often in a second than --max-hits lets be shown: named, and counted.

Handlers count what they leave out in a map of addresses, which is looked at from time to time.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pypwru.kernel import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pypwru.config import Config
    from pypwru.log import Log

_MOST_NAMED = 10


class Throttled:
    """The map ``throttled``.

    Args:
        fd: its descriptor; None where there is no limit.
        names: the address that a record carries -> name; may grow.
    """

    def __init__(self, fd: int | None, names: Mapping[int, str]) -> None:
        self._fd = fd
        self._names = names
        self._told: set[str] = set()

    def counts(self) -> dict[str, int]:
        """Function -> its sights that were left out so far, the most first."""
        if self._fd is None:
            return {}
        found: Counter[str] = Counter()
        for key in bpf.map_keys(self._fd, 8):
            address = int.from_bytes(key, "little")
            count = int.from_bytes(bpf.map_lookup(self._fd, key, 8), "little")
            found[self._names.get(address, f"{address:#x}")] += count
        return dict(found.most_common())

    def poll(self, log: Log, most: int) -> None:
        """Name those that are throttled since the last time.

        Args:
            most: --max-hits.
        """
        if new := [name for name in self.counts() if name not in self._told]:
            self._told.update(new)
            log.warn("Throttled: hit more often than --max-hits", most=most, functions=_some(new))

    def tell(self, log: Log) -> None:
        """How much of each was left out."""
        counts = self.counts()
        if counts:
            told = [f"{name}:{count}" for name, count in counts.items()]
            log.warn("Not shown of throttled functions", hits=_some(told))


NONE = Throttled(None, {})
"""Of a run without --max-hits."""


def _some(words: list[str]) -> str:
    more = len(words) - _MOST_NAMED
    return ",".join(words[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def throttling(
    config: Config, maps: Mapping[str, int], names: Mapping[int, str], log: Log
) -> Iterator[Throttled]:
    """The ``Throttled`` of a run; on the way out, which is when all is detached, it tells them all.

    Args:
        maps: name -> descriptor.
        names: as of Throttled.
    """
    found = Throttled(maps.get("throttled"), names)
    yield found
    found.poll(log, config.max_hits)
    found.tell(log)
