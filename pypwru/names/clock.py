"""The times of an event: wall clock, and interval since the previous event of its packet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_PACKETS = 1 << 16
_READINGS = 3


def wall_offset() -> int:
    """Return the ns from CLOCK_MONOTONIC, which bpf_ktime_get_ns() reads, to CLOCK_REALTIME.

    Of several readings it uses the one that took the shortest time: preemption between two clock
    reads would add to the error.
    """
    return min(_reading() for _ in range(_READINGS))[1]


def _reading() -> tuple[int, int]:
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, wall - (before + after) // 2


class Clock:
    """Converter from ns of CLOCK_MONOTONIC to the times that outputs print.

    Args:
        offset: returns the ns from CLOCK_MONOTONIC to CLOCK_REALTIME.
    """

    def __init__(self, offset: Callable[[], int] = wall_offset) -> None:
        self._offset = offset
        self._to_wall = offset()
        self._second = -1
        self._prefix = ""
        # Packet -> ktime of its last event. Two generations bound the memory without an LRU update
        # for each event.
        self._last_times: dict[bytes, int] = {}
        self._older_times: dict[bytes, int] = {}

    def refresh_offset(self) -> None:
        """Read the clock offset again, to follow steps of the wall clock; called once per batch."""
        self._to_wall = self._offset()

    def local_time(self, ktime: int) -> str:
        """Return the local time of an event, truncated to ms: ``2026-11-23T04:18:33.584``.

        Args:
            ktime: ns of CLOCK_MONOTONIC.
        """
        second, rest = divmod(ktime + self._to_wall, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second))
        return f"{self._prefix}.{rest // 1_000_000:03}"

    def wall_ns(self, ktime: int) -> int:
        """Return the time of an event in ns since the epoch.

        Args:
            ktime: ns of CLOCK_MONOTONIC.
        """
        return ktime + self._to_wall

    def since_previous(self, packet: bytes, ktime: int) -> int:
        """Return the ns since the previous event of the same packet.

        0 for the first event of a packet.

        Args:
            packet: ``struct part_packet_id``.
            ktime: time of the event, ns of CLOCK_MONOTONIC.
        """
        last = self._last_times.get(packet)
        if last is None:
            last = self._older_times.get(packet, ktime)
            if len(self._last_times) >= _MAX_PACKETS:
                self._older_times, self._last_times = self._last_times, {}
        self._last_times[packet] = ktime
        return ktime - last
