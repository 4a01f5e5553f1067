"""Sights of packets and their ends, in this process: which packet each record is of."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pypwru.config import Config
from pypwru.events.record import EVENT, Slices, constants
from pypwru.events.wire import wire
from pypwru.log import Log
from pypwru.options import parse
from pypwru.session import Session, compile_filters, opened
from pypwru.signals import call

PATIENCE = 60  # s
END = constants()["EVENT_END"]


class Sight(NamedTuple):
    """A record; ``packet`` is 0 where none is named."""

    name: str
    kind: int
    skb: int
    packet: int
    ktime: int
    record: Slices

    @property
    def is_end(self) -> bool:
        return self.kind == END


@dataclass
class Following:
    """A trace under way; ``sights`` grows by ``read``."""

    session: Session
    sights: list[Sight] = field(default_factory=list)

    def read(self) -> list[Sight]:
        """All that is on the ring now, in the order of the kernel; also in ``sights``."""
        found = [self._sight(one) for batch in self.session.rest() for one in batch]
        self.sights += found
        return found

    def until(self, fact: Callable[[Sequence[Sight]], bool]) -> None:
        """Read until ``fact`` is true of ``sights``."""
        end = time.monotonic() + PATIENCE
        while not fact(self.sights):
            self.read()
            assert time.monotonic() < end, "it is not seen"

    def account(self) -> dict[str, int]:
        """As on the last line of the log: nothing is traced any more."""
        self.session.stop()
        self.read()
        self.session.detach()
        return self.session.account(sum(not sight.is_end for sight in self.sights))

    def _sight(self, record: Slices) -> Sight:
        packet, function, ktime, _, tail = record
        name = self.session.names.function(int.from_bytes(function[:8], "little"), 0, 0)
        at = EVENT["kind"]
        kind = int.from_bytes(packet[at.offset : at.offset + at.size], "little")
        identity = wire(self.session.config).parts.get("identity")
        which = tail[identity.offset : identity.offset + identity.size] if identity else b""
        skb, number = (int.from_bytes(one, "little") for one in (packet[:8], which))
        return Sight(name.partition("(")[0], kind, skb, number, ktime, record)


@contextlib.contextmanager
def following(*words: str) -> Iterator[Following]:
    """A session whose records nobody prints."""
    config = parse([*words])
    assert isinstance(config, Config)
    log = Log(None)
    filters = compile_filters(config, log)
    with call() as wish, opened(config, filters, log, wish) as session:
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
