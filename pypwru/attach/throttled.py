"""Report the functions whose events --max-hits suppresses: log their names and counts.

Handlers count each suppressed event in the map ``throttled``, by address; it is read periodically.
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
    """Reader of the map ``throttled``: u64 address -> u64 number of suppressed events.

    Args:
        fd: descriptor of the map, owned by the caller; None in a run without --max-hits.
        names: address in a record -> display name; may grow.
    """

    def __init__(self, fd: int | None, names: Mapping[int, str]) -> None:
        self._fd = fd
        self._names = names
        self._told: set[str] = set()

    def counts(self) -> dict[str, int]:
        """Return display name -> number of its suppressed events so far, in descending order."""
        if self._fd is None:
            return {}
        found: Counter[str] = Counter()
        for key in bpf.map_keys(self._fd, 8):
            address = int.from_bytes(key, "little")
            count = int.from_bytes(bpf.map_lookup(self._fd, key, 8), "little")
            found[self._names.get(address, f"{address:#x}")] += count
        return dict(found.most_common())

    def poll(self, log: Log, most: int) -> None:
        """Log the functions that are throttled for the first time.

        Args:
            log: gets one warning.
            most: --max-hits, events per second and function.
        """
        if new := [name for name in self.counts() if name not in self._told]:
            self._told.update(new)
            log.warn("Throttled: hit more often than --max-hits", most=most, functions=_some(new))

    def tell(self, log: Log) -> None:
        """Log the number of suppressed events of each function."""
        counts = self.counts()
        if counts:
            told = [f"{name}:{count}" for name, count in counts.items()]
            log.warn("Events suppressed by --max-hits", hits=_some(told))


NONE = Throttled(None, {})
"""The report of a run without --max-hits."""


def _some(words: list[str]) -> str:
    more = len(words) - _MOST_NAMED
    return ",".join(words[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def throttling(
    config: Config, maps: Mapping[str, int], names: Mapping[int, str], log: Log
) -> Iterator[Throttled]:
    """Open the report of a run; on exit, after detaching, log its totals.

    Args:
        config: of the run.
        maps: map name -> descriptor.
        names: as of Throttled.
        log: gets the totals.

    Yields:
        The report; empty without --max-hits.
    """
    found = Throttled(maps.get("throttled"), names)
    yield found
    found.poll(log, config.max_hits)
    found.tell(log)
