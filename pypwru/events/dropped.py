"""Filter for packets that are dropped in the end (--drops), each with its complete path.

The events of a packet are held until the packet is freed, and are then passed on in one go, or
discarded.
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
    """A stage of the pipeline that passes on the events of dropped packets only.

    Args:
        wire: the layout of records; they have a packet id.
        names: address in a record -> name, of all attached targets. The caller owns it, and adds
            targets while tracing.
        drops: whether a function with a drop reason drops packets.
        clock: returns CLOCK_MONOTONIC, ns.
    """

    def __init__(
        self,
        wire: Wire,
        names: Mapping[int, str],
        drops: Drops,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.overflowed = 0
        """Events that were discarded for lack of room, of packets not dropped until then."""
        self._paths = Paths(wire, names, drops, self._over, clock)
        self._found: list[Slices] = []

    def take(self, batch: Sequence[Slices]) -> list[Slices]:
        """Process a batch, also an empty one, which advances timeouts.

        Returns:
            The events of packets that turned out to be dropped, each packet's in order, the event
            that dropped it marked (``drop_flag``), and its free record at the end.
        """
        self._paths.take(batch)
        return self._taken()

    def finish(self) -> list[Slices]:
        """Return the events of the packets that are dropped so far, at the end of the trace."""
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
