"""The path of each packet, held until the packet has ended."""

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
"""Held at a time; beyond, the packet that was quiet for longest is no longer followed."""

# ns after which a packet that was dropped has ended, if nobody tells: kfree_skb_list_reason() gives
# memory back in bulk (Linux 6.3, eedade12f4cb), which no function sees packet by packet.
_PATIENCE = 500_000_000


class Path:
    """What is known of a packet.

    Args:
        skb: its address.
    """

    __slots__ = ("end", "fate", "sights", "skb")

    def __init__(self, skb: bytes) -> None:
        self.skb = skb
        self.sights: list[Slices] = []
        self.fate = Fate()
        self.end: Slices | None = None
        """The record that told of its end."""


class Paths:
    """Collects them.

    Args:
        wire: the layout of records; they have an identity.
        names: the address that a record carries -> name, of everything that is traced; may grow.
        drops: which of them throw packets away.
        over: takes a path, and why it is over. One that nobody has room for is given as it is.
        clock: CLOCK_MONOTONIC, ns.
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
        self._held = 0
        self._dropped: dict[bytes, int] = {}  # address -> when that was said; the oldest first

    def take(self, batch: Sequence[Slices]) -> None:
        """Take a batch, also an empty one, with the ends of packets."""
        for record in batch:
            path = self._lives.see(record)
            if path is not None:
                self._add(path, record)
            elif is_end(record):
                self._end(record)
        self._lives.settle()
        self._lose_patience()

    def finish(self) -> None:
        """The trace is over: so are all."""
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
