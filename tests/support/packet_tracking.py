"""Sights of packets and their ends, in this process: which packet each record is of."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pypwru.wire.layout import record_layout
from pypwru.wire.record import EVENT_MEMBERS, RawRecord, header_constants
from tests.support.sessions import Reading, session_of

END = header_constants()["EVENT_SKB_FREE"]


class Sight(NamedTuple):
    """A record; ``packet`` is 0 where none is named."""

    name: str
    kind: int
    skb: int
    packet: int
    ktime: int
    record: RawRecord

    @property
    def is_end(self) -> bool:
        return self.kind == END


class Following(Reading[Sight]):
    """A trace whose records tell which packet they are of."""

    def account(self) -> dict[str, int]:
        """As on the last line of the log: nothing is traced any more."""
        self.session.stop()
        self.read()
        self.session.detach()
        return self.session.summary(sum(not sight.is_end for sight in self.sights))

    def sight(self, record: RawRecord) -> Sight:
        packet, _, ktime, _, tail = record
        at = EVENT_MEMBERS["kind"]
        kind = int.from_bytes(packet[at.offset : at.offset + at.size], "little")
        identity = record_layout(self.session.config).parts.get("packet_id")
        which = tail[identity.offset : identity.offset + identity.size] if identity else b""
        skb, number = (int.from_bytes(one, "little") for one in (packet[:8], which))
        return Sight(self.name(record), kind, skb, number, ktime, record)


@contextlib.contextmanager
def following(*words: str) -> Iterator[Following]:
    """A session whose records nobody prints."""
    with session_of(*words) as session:
        yield Following(session)


def paths(sights: Sequence[Sight]) -> dict[int, list[str]]:
    """Packet -> the functions that saw it, in the order of the ring."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for sight in sights:
        if not sight.is_end and sight.packet:
            found[sight.packet].append(sight.name)
    return dict(found)


def lives(sights: Sequence[Sight]) -> dict[tuple[int, int], str]:
    """(sk_buff, packet) -> its sights ``s`` and ends ``E``, in the order of the ring."""
    found: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for sight in sights:
        if sight.packet:
            found[sight.skb, sight.packet].append("E" if sight.is_end else "s")
    return {key: "".join(letters) for key, letters in found.items()}
