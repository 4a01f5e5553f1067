"""Read batches of records from the ring until a stop request."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from pypwru.ring.reader import MAX_BATCH, RingReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pypwru.signals import StopRequest
    from pypwru.wire.record import RawRecord

_POLL_INTERVAL = 0.5  # s, between calls of the pollers


def drain(
    ring: RingReader, stop: StopRequest, pollers: Sequence[Callable[[], None]] = ()
) -> Iterator[list[RawRecord]]:
    """Yield batches of records as they arrive, until a stop request.

    Args:
        ring: the ring to read.
        stop: the stop request; its descriptor wakes a waiting read.
        pollers: called about twice a second, to detect changes on this machine, such as modules
            that were loaded.

    Yields:
        At most ``BATCH`` records. Empty batches, too: a consumer that delays records advances its
        timeouts on them.
    """
    last_poll = monotonic()
    ring.watch(stop.fd)
    while not stop.received:
        batch = ring.read()
        yield batch
        if monotonic() - last_poll > _POLL_INTERVAL:
            for poll in pollers:
                poll()
            last_poll = monotonic()
        if len(batch) < MAX_BATCH:
            ring.wait()


def drain_remaining(ring: RingReader) -> Iterator[list[RawRecord]]:
    """Yield batches of the records that are left on the ring, until it is empty."""
    while batch := ring.read():
        yield batch
