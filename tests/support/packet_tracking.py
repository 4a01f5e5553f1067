"""Events and frees of packets, in this process, each with its packet_id."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pypwru.wire.record import EVENT_MEMBERS, RawRecord, header_constants
from tests.support.layouts import layout_of
from tests.support.sessions import RecordReader, session_of

FREE = header_constants()["EVENT_SKB_FREE"]


class TrackedEvent(NamedTuple):
    """A record; ``packet`` is its packet_id, 0 where it has none."""

    name: str
    kind: int
    skb: int
    packet: int
    ktime: int
    record: RawRecord

    @property
    def is_free(self) -> bool:
        return self.kind == FREE


class TrackingSession(RecordReader[TrackedEvent]):
    """A trace whose records have packet_ids."""

    def account(self) -> dict[str, int]:
        """Detach, and return the counters of the last line of the log."""
        self.session.stop()
        self.read()
        self.session.detach()
        return self.session.summary(sum(not decode.is_free for decode in self.events))

    def decode(self, record: RawRecord) -> TrackedEvent:
        packet, _, ktime, _, tail = record
        at = EVENT_MEMBERS["kind"]
        kind = int.from_bytes(packet[at.offset : at.offset + at.size], "little")
        identity = layout_of(self.session.config).parts.get("packet_id")
        which = tail[identity.offset : identity.offset + identity.size] if identity else b""
        skb, number = (int.from_bytes(one, "little") for one in (packet[:8], which))
        return TrackedEvent(self.name(record), kind, skb, number, ktime, record)


@contextlib.contextmanager
def tracking(*words: str) -> Iterator[TrackingSession]:
    """Open a session whose records no output prints."""
    with session_of(*words) as session:
        yield TrackingSession(session)


def paths(events: Sequence[TrackedEvent]) -> dict[int, list[str]]:
    """Map packet_ids to the functions with an event, in the order of the ring."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for decode in events:
        if not decode.is_free and decode.packet:
            found[decode.packet].append(decode.name)
    return dict(found)


def lifetimes(events: Sequence[TrackedEvent]) -> dict[tuple[int, int], str]:
    """Map (sk_buff, packet_id) to its events ``s`` and frees ``E``, in the order of the ring."""
    found: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for decode in events:
        if decode.packet:
            found[decode.skb, decode.packet].append("E" if decode.is_free else "s")
    return {key: "".join(letters) for key, letters in found.items()}
