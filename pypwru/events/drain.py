"""Batches of records from the ring, until somebody wants the end."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from pypwru.events.ring import BATCH, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.events.record import Slices
    from pypwru.signals import Interrupts

_LOOK = 0.5  # s, between looks


def drain(
    ring: Ring, stop: Interrupts, looks: Sequence[Callable[[], None]] = ()
) -> Iterator[list[Slices]]:
    """Records as they come, until ``stop``; also empty batches, since what was taken before may
    wait for its time.

    Args:
        looks: called about twice a second, for what may have changed on this machine.
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
    """What the ring holds."""
    while batch := ring.read():
        yield batch
