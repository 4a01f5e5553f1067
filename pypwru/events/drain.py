"""Batches of records from the ring, until somebody wants the end."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.ring import BATCH, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.events.record import Slices
    from pypwru.signals import Interrupts

_LOOK = 0.5  # s, between looks
_LIVE = 1 << 20  # addresses remembered at most


class PacketCount:
    """How many packets were seen: an address counts again once its skb was freed.

    Args:
        names: the address that a record carries -> name, of everything that is traced.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.total = 0
        last = [address for address, name in names.items() if name in LAST_SIGHTS]
        self._last = {address.to_bytes(8, "little") for address in last}
        self._live: set[bytes] = set()

    def add(self, batch: Sequence[Slices]) -> None:
        """Count ``batch``."""
        live, last = self._live, self._last
        for packet, func, _, _, _ in batch:
            skb = packet[:8]
            if skb not in live:
                self.total += 1
                live.add(skb)
            if func[:8] in last:
                live.discard(skb)
        if len(live) > _LIVE:
            live.clear()


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
