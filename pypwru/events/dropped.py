"""Only packets that are thrown away in the end, each with its whole path.

What is seen of a packet is held until it has ended, and then shown in one go, or forgotten.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pypwru.events.drop_flag import flag_drop_event
from pypwru.events.lives import Why
from pypwru.events.paths import Path, Paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.events.fate import Drops
    from pypwru.events.record import Slices
    from pypwru.events.wire import Wire


class Dropped:
    """A stage between the ring and what shows records; arguments as of Paths."""

    def __init__(
        self,
        wire: Wire,
        names: Mapping[int, str],
        drops: Drops,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.overflowed = 0
        """Sights thrown away for lack of room, of packets that nobody had dropped yet."""
        self._paths = Paths(wire, names, drops, self._over, clock)
        self._found: list[Slices] = []

    def take(self, batch: Sequence[Slices]) -> list[Slices]:
        """Take a batch, also an empty one; gives what has been decided on, with its ends."""
        self._paths.take(batch)
        return self._taken()

    def finish(self) -> list[Slices]:
        """The trace is over: what was dropped has ended."""
        self._paths.finish()
        return self._taken()

    def _taken(self) -> list[Slices]:
        found, self._found = self._found, []
        return found

    def _over(self, path: Path, why: Why) -> None:
        drop = path.fate.drop
        if drop is None:
            self.overflowed += len(path.sights) * (why is Why.CROWDED)
            return
        self._found += [flag_drop_event(one) if one is drop else one for one in path.sights]
        if path.end is not None:
            self._found.append(path.end)
