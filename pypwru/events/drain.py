"""From the ring to the printer, until somebody wants the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pypwru.events.record import STRIDE, Record, decode
from pypwru.events.ring import BATCH, Ring
from pypwru.output.sink import OutputClosed
from pypwru.signals import Interrupts

_LIVE = 1 << 20  # addresses remembered at most
# Nothing sees an skb after these; which of them there are differs by kernel and backend.
LAST_SIGHTS = frozenset(
    ("kfree_skbmem", "napi_skb_cache_put", "kfree_skb_partial", "tp:kfree_skb", "tp:consume_skb")
)


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

    def add(self, batch: Sequence[Record]) -> None:
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
    ring: Ring, show: Callable[[Sequence[Record]], bool], count: PacketCount, stop: Interrupts
) -> End:
    """Show records as they come.

    Args:
        show: prints a batch; true when no more are wanted.
    """
    ring.watch(stop.fd)
    end = SIGNAL
    try:
        while not stop.received:
            records = ring.read()
            if records:
                batch = decode(records)
                count.add(batch)
                if show(batch):
                    end = LIMIT
                    break
            if len(records) < BATCH * STRIDE:
                ring.wait()
    except OutputClosed:
        end = CLOSED
    ring.stop()
    if end.wants_rest:
        drain_rest(ring, show, count)
    return end


def drain_rest(ring: Ring, show: Callable[[Sequence[Record]], bool], count: PacketCount) -> None:
    """Show what the ring still holds."""
    while records := ring.read():
        batch = decode(records)
        count.add(batch)
        try:
            if show(batch):
                return
        except OutputClosed:
            return
