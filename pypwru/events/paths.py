"""Hold the events of each packet until it is freed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pypwru.events.fate import Drops, Fate, Words
from pypwru.events.lives import Lives, Why, is_end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pypwru.events.record import Slices
    from pypwru.events.wire import Wire

SIGHTS = 1 << 17
"""Events that are held at a time. Beyond, the packet without an event for longest is evicted."""

# ns after a drop without a free record, after which a packet counts as freed: since Linux commit
# eedade12f4cb ("net: kfree_skb_list use kmem_cache_free_bulk") (in v6.3) kfree_skb_list_reason()
# frees in bulk, and no function is called for each packet.
_PATIENCE = 500_000_000


class Path:
    """Event history of a packet: ``sights`` in the order of the ring, and its outcome so far.

    Args:
        skb: address of the sk_buff, as in records.
    """

    __slots__ = ("end", "fate", "sights", "skb")

    def __init__(self, skb: bytes) -> None:
        self.skb = skb
        self.sights: list[Slices] = []
        self.fate = Fate()
        self.end: Slices | None = None
        """The free record; None until it arrives."""


class Paths:
    """Collects the event history of each packet.

    Args:
        wire: the layout of records; they have a packet id.
        names: address in a record -> name, of all attached targets. The caller owns it, and adds
            targets while tracing.
        drops: whether a function with a drop reason drops packets.
        over: called with a history when it is complete, and why it is. An evicted packet's is
            passed as it is. It is not used any more afterwards.
        clock: returns CLOCK_MONOTONIC, ns.
    """

    def __init__(
        self,
        wire: Wire,
        names: Mapping[int, str],
        drops: Drops,
        over: Callable[[Path, Why], object],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._words = Words(names, drops)
        self._lives = Lives(wire, names, lambda record: Path(record[0][:8]), self._let_go)
        self._over = over
        self._clock = clock
        self._held = 0  # events
        self._dropped: dict[bytes, int] = {}  # address -> ktime of its first drop; the oldest first

    def take(self, batch: Sequence[Slices]) -> None:
        """Process a batch of records, free records included; an empty one advances timeouts."""
        for record in batch:
            path = self._lives.see(record)
            if path is not None:
                self._add(path, record)
            elif is_end(record):
                self._end(record)
        self._lives.settle()
        self._lose_patience()

    def finish(self) -> None:
        """Complete all histories, at the end of the trace."""
        self._lives.finish()

    def _end(self, record: Slices) -> None:
        path = self._lives.at(record[0][:8])
        if path is not None:
            path.end = record

    def _add(self, path: Path, record: Slices) -> None:
        path.sights.append(record)
        self._held += 1
        word = self._words.of(record)
        if word is not None:
            path.fate.hear(record, word)
        if word:
            self._dropped.setdefault(path.skb, record[2])
        while self._held > SIGHTS:
            self._lives.leave_quietest()

    def _lose_patience(self) -> None:
        late = self._clock() - _PATIENCE
        while self._dropped:
            skb, since = next(iter(self._dropped.items()))
            if since > late:
                break
            del self._dropped[skb]
            path = self._lives.at(skb)
            if path is not None and path.fate.drop is not None:
                self._lives.leave(skb)

    def _let_go(self, path: Path, why: Why) -> None:
        self._held -= len(path.sights)
        self._dropped.pop(path.skb, None)
        self._over(path, why)
