"""The times of an event: on the wall, and since its packet was last seen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_REMEMBERED = 1 << 16
_READINGS = 3
_UNKNOWN = bytes(8)


def wall_offset() -> int:
    """Nanoseconds from CLOCK_MONOTONIC, which bpf_ktime_get_ns reads, to CLOCK_REALTIME.

    Of several readings that which was interrupted for the shortest time.
    """
    return min(_reading() for _ in range(_READINGS))[1]


def _reading() -> tuple[int, int]:
    before = time.monotonic_ns()
    wall = time.time_ns()
    after = time.monotonic_ns()
    return after - before, wall - (before + after) // 2


class Clock:
    """Turns the kernel's times of events into what is shown.

    Args:
        offset: nanoseconds from the kernel's clock to the wall's.
    """

    def __init__(self, offset: Callable[[], int] = wall_offset) -> None:
        self._offset = offset
        self._to_wall = offset()
        self._second = -1
        self._prefix = ""
        # Two generations bound what is remembered without ordering it at each event.
        self._seen: dict[bytes, int] = {}
        self._seen_before: dict[bytes, int] = {}

    def adjust(self) -> None:
        """Follow a step of the wall clock; called once a batch."""
        self._to_wall = self._offset()

    def wall(self, ktime: int) -> str:
        """Local time of the event itself, milliseconds cut off: ``2026-11-23T04:18:33.584``."""
        second, rest = divmod(ktime + self._to_wall, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second))
        return f"{self._prefix}.{rest // 1_000_000:03}"

    def wall_nanoseconds(self, ktime: int) -> int:
        """Time of the event itself, since the epoch."""
        return ktime + self._to_wall

    def since(self, packet: bytes, ktime: int) -> int:
        """Nanoseconds since the previous event of the same packet; 0 for the first, and where it
        isn't known which packet it is.

        Args:
            packet: ``struct part_identity``.
            ktime: when the event was.
        """
        if packet == _UNKNOWN:
            return 0
        last = self._seen.get(packet)
        if last is None:
            last = self._seen_before.get(packet, ktime)
            if len(self._seen) >= _REMEMBERED:
                self._seen_before, self._seen = self._seen, {}
        self._seen[packet] = ktime
        return ktime - last
