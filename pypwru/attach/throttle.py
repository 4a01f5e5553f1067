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

    from pypwru.log import Log

_MAX_LOGGED = 10


class ThrottleReport:
    """Reader of the map ``throttled``: u64 address -> u64 number of suppressed events.

    Args:
        fd: descriptor of the map, owned by the caller; None in a run without --max-hits.
        targets: address in a record -> name, of the run.
    """

    def __init__(self, fd: int | None, targets: Mapping[int, str]) -> None:
        self._fd = fd
        self._targets = targets
        self._logged: set[str] = set()

    def counts(self) -> dict[str, int]:
        """Return display name -> number of its suppressed events so far, in descending order."""
        if self._fd is None:
            return {}
        found: Counter[str] = Counter()
        for key in bpf.map_keys(self._fd, 8):
            address = int.from_bytes(key, "little")
            count = int.from_bytes(bpf.map_lookup(self._fd, key, 8), "little")
            found[self._targets.get(address, f"{address:#x}")] += count
        return dict(found.most_common())

    def log_new(self, log: Log, max_hits: int) -> None:
        """Log the functions that are throttled for the first time.

        Args:
            log: gets one warning.
            max_hits: --max-hits, events per second and function.
        """
        if new := [name for name in self.counts() if name not in self._logged]:
            self._logged.update(new)
            log.warn(
                "Throttled: hit more often than --max-hits",
                most=max_hits,
                functions=_join_first(new),
            )

    def log_totals(self, log: Log) -> None:
        """Log the number of suppressed events of each function."""
        counts = self.counts()
        if counts:
            entries = [f"{name}:{count}" for name, count in counts.items()]
            log.warn("Events suppressed by --max-hits", hits=_join_first(entries))


def _join_first(entries: list[str]) -> str:
    more = len(entries) - _MAX_LOGGED
    return ",".join(entries[:_MAX_LOGGED]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def open_throttle_report(
    maps: Mapping[str, int], targets: Mapping[int, str], log: Log, *, max_hits: int
) -> Iterator[ThrottleReport]:
    """Open the report of a run; on exit, after detaching, log its totals.

    Args:
        maps: map name -> descriptor.
        targets: as of ThrottleReport.
        log: gets the totals.
        max_hits: maximum events per second and function; 0 for no limit.

    Yields:
        The report; empty without --max-hits.
    """
    report = ThrottleReport(maps.get("throttled"), targets)
    yield report
    report.log_new(log, max_hits)
    report.log_totals(log)
