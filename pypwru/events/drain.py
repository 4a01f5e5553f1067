"""Read batches of records from the ring until a stop request."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from pypwru.events.ring import BATCH, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.events.record import Slices
    from pypwru.signals import Interrupts

_LOOK = 0.5  # s, between calls of the pollers


def drain(
    ring: Ring, stop: Interrupts, looks: Sequence[Callable[[], None]] = ()
) -> Iterator[list[Slices]]:
    """Yield batches of records as they arrive, until a stop request.

    Args:
        ring: the ring to read.
        stop: the stop request; its descriptor wakes a waiting read.
        looks: called about twice a second, to detect changes on this machine, such as modules that
            were loaded.

    Yields:
        At most ``BATCH`` records. Empty batches, too: a consumer that delays records advances its
        timeouts on them.
    """
    looked = monotonic()
    ring.watch(stop.fd)
    while not stop.received:
        batch = ring.read()
        yield batch
        if monotonic() - looked > _LOOK:
            for look in looks:
                look()
            looked = monotonic()
        if len(batch) < BATCH:
            ring.wait()


def rest(ring: Ring) -> Iterator[list[Slices]]:
    """Yield batches of the records that are left on the ring, until it is empty."""
    while batch := ring.read():
        yield batch
