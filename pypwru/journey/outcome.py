"""The outcome of a packet: dropped, delivered, sent, ..., by its events and data/ends.txt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.discovery import function_tables
from pypwru.packets.tracker import EndReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.packets.history import PacketHistory
    from pypwru.wire.record import RawRecord

DROPPED, DELIVERED, UNDER_WAY, FREED = "dropped", "delivered", "under way", "freed"
CUT = "cut"
RECEIVED = "received"  # no outcome: the packet came in again, which voids those of its way out
_TEXTS = {
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
KINDS = tuple(_TEXTS)
"""Kinds of outcomes: those of data/ends.txt, and dropped, freed, under way and cut."""


class JourneyOutcome(NamedTuple):
    """The outcome of a packet.

    Args:
        kind: of ``KINDS``.
        record: the event that it follows from; the last one if none does.
    """

    kind: str
    record: RawRecord

    @property
    def text(self) -> str:
        """The kind as text: ``delivered to``, ..."""
        return _TEXTS[self.kind]


class OutcomeClassifier:
    """Classifier of outcomes.

    Args:
        targets: address in a record -> name, of the run.
    """

    def __init__(self, targets: Mapping[int, str]) -> None:
        self.is_limit_reached = False
        """True once --output-limit-lines suppresses events, which may include the outcome."""
        self._targets = targets
        self._kind_by_function = {
            name: row.key for row in function_tables.load_table("ends") for name in row.names
        }

    def classify(self, history: PacketHistory, reason: EndReason) -> JourneyOutcome:
        """Return the outcome of a packet.

        Args:
            history: its events, at least one.
            reason: why it is no longer tracked.
        """
        if history.outcome.drop is not None:
            return JourneyOutcome(DROPPED, history.outcome.drop)
        if reason is EndReason.TRACE_ENDED:
            # An sk_buff that a process has read may be freed much later:
            # skb_attempt_defer_free() (since Linux 5.19).
            last = self._last_outcome(history.events[-1:])
            if last and last.kind == DELIVERED:
                return last
            return JourneyOutcome(CUT if self.is_limit_reached else UNDER_WAY, history.events[-1])
        return self._last_outcome(history.events) or JourneyOutcome(FREED, history.events[-1])

    def _last_outcome(self, records: Sequence[RawRecord]) -> JourneyOutcome | None:
        for record in reversed(records):
            name = self._targets.get(int.from_bytes(record[1][:8], "little"), "")
            kind = self._kind_by_function.get(name.partition("[")[0])
            if kind == RECEIVED:
                return None
            if kind:
                return JourneyOutcome(kind, record)
        return None
