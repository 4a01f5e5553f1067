"""How a packet's journey ended: in numbers, and in words."""

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
RECEIVED = "received"  # behind what the table tells of the way out
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
"""Of ends: those of data/ends.txt, and what nothing there tells."""


class End(NamedTuple):
    """How it ended.

    Args:
        kind: of ``KINDS``.
        record: the sight that tells so.
    """

    kind: str
    record: Slices

    @property
    def words(self) -> str:
        """``delivered to``, ..."""
        return _WORDS[self.kind]


class Ends:
    """Tells how journeys ended.

    Args:
        names: the address that a record carries -> name, of everything that is traced; may grow.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.are_cut = False
        """Whether events are left out from now on, which may have told of an end."""
        self._names = names
        self._kinds = {name: row.key for row in tables.rows("ends") for name in row.words}

    def of(self, path: Path, why: Why) -> End:
        """The end of a path, which has a sight.

        Args:
            why: it is over.
        """
        if path.fate.drop is not None:
            return End(DROPPED, path.fate.drop)
        if why is Why.STOPPED:
            # Its memory may go long after a process has read it: skb_attempt_defer_free(), 5.19.
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
