"""From the ring to the printer, until somebody wants the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from pypwru.discovery.lifetime import LAST_SIGHTS
from pypwru.events.record import Slices
from pypwru.events.ring import BATCH, Ring
from pypwru.output.sink import OutputClosed
from pypwru.signals import Interrupts

_LOOK = 0.5  # s, between looks
_LIVE = 1 << 20  # addresses remembered at most


class End(NamedTuple):
    """Why a trace ended.

    Args:
        message: for the log.
        wants_rest: whether records that are still on the ring are printed.
    """

    message: str
    wants_rest: bool


SIGNAL = End("Received signal, exiting program..", True)
LIMIT = End("Printed events, exiting program..", False)
CLOSED = End("Standard output has no reader, exiting program..", False)


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
    ring: Ring,
    show: Callable[[Sequence[Slices]], bool],
    count: PacketCount,
    stop: Interrupts,
    looks: Sequence[Callable[[], None]] = (),
) -> End:
    """Show records as they come.

    Args:
        show: prints a batch; true when no more are wanted. Is given empty ones too, since some of
            what it was given may wait for its time.
        looks: called about twice a second, for what may have changed on this machine.
    """
    looked = monotonic()
    ring.watch(stop.fd)
    end = SIGNAL
    try:
        while not stop.received:
            batch = ring.read()
            count.add(batch)
            if show(batch):
                end = LIMIT
                break
            if monotonic() - looked > _LOOK:
                for look in looks:
                    look()
                looked = monotonic()
            if len(batch) < BATCH:
                ring.wait()
    except OutputClosed:
        end = CLOSED
    ring.stop()
    if end.wants_rest:
        drain_rest(ring, show, count)
    return end


def drain_rest(ring: Ring, show: Callable[[Sequence[Slices]], bool], count: PacketCount) -> None:
    """Show what the ring still holds."""
    while batch := ring.read():
        count.add(batch)
        try:
            if show(batch):
                return
        except OutputClosed:
            return
