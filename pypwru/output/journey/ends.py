"""The outcome of a packet: dropped, delivered, sent, ..., by its events and data/ends.txt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import tables
from pypwru.events.lives import Why

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.events.paths import Path
    from pypwru.events.record import Slices

DROPPED, DELIVERED, UNDER_WAY, FREED = "dropped", "delivered", "under way", "freed"
CUT = "cut"
RECEIVED = "received"  # no outcome: the packet came in again, which voids those of its way out
_WORDS = {
    DROPPED: "dropped",
    DELIVERED: "delivered to",
    "sent": "sent on",
    "handled": "handled by the kernel",
    "merged": "merged into another packet",
    "split": "cut into smaller packets",
    FREED: "freed",
    UNDER_WAY: "still under way when the trace ended",
    CUT: "cut off by --output-limit-lines",
}
KINDS = tuple(_WORDS)
"""Kinds of outcomes: those of data/ends.txt, and dropped, freed, under way and cut."""


class End(NamedTuple):
    """The outcome of a packet.

    Args:
        kind: of ``KINDS``.
        record: the event that it follows from; the last one if none does.
    """

    kind: str
    record: Slices

    @property
    def words(self) -> str:
        """The kind as text: ``delivered to``, ..."""
        return _WORDS[self.kind]


class Ends:
    """Classifier of outcomes.

    Args:
        names: address in a record -> name, of every attached target; shared, grows during the run.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.are_cut = False
        """True once --output-limit-lines suppresses events, which may include the outcome."""
        self._names = names
        self._kinds = {name: row.key for row in tables.rows("ends") for name in row.words}

    def of(self, path: Path, why: Why) -> End:
        """Return the outcome of a packet.

        Args:
            path: its events, at least one.
            why: why it is no longer tracked.
        """
        if path.fate.drop is not None:
            return End(DROPPED, path.fate.drop)
        if why is Why.STOPPED:
            # An sk_buff that a process has read may be freed much later:
            # skb_attempt_defer_free() (since Linux 5.19).
            last = self._told(path.sights[-1:])
            if last and last.kind == DELIVERED:
                return last
            return End(CUT if self.are_cut else UNDER_WAY, path.sights[-1])
        return self._told(path.sights) or End(FREED, path.sights[-1])

    def _told(self, sights: Sequence[Slices]) -> End | None:
        for record in reversed(sights):
            name = self._names.get(int.from_bytes(record[1][:8], "little"), "")
            kind = self._kinds.get(name.partition("[")[0])
            if kind == RECEIVED:
                return None
            if kind:
                return End(kind, record)
        return None
