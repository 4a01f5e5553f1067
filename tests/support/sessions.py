"""Records of a session in this process, which nobody prints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pypwru.cli.flags import parse
from pypwru.config import Config
from pypwru.log import Log
from pypwru.phases.plan import compile_filters
from pypwru.session import Session, open_session
from pypwru.signals import manual_stop
from pypwru.wire.record import RawRecord

PATIENCE = 60  # s

S = TypeVar("S")


@dataclass
class Reading(Generic[S]):
    """A trace under way; ``sights`` grows by ``read``."""

    session: Session
    sights: list[S] = field(default_factory=list)

    def sight(self, record: RawRecord) -> S:
        """What a record tells."""
        raise NotImplementedError

    def name(self, record: RawRecord) -> str:
        """Of where it was written."""
        address = int.from_bytes(record[1][:8], "little")
        return self.session.names.function(address, 0, 0).partition("(")[0]

    def read(self) -> list[S]:
        """All that is on the ring now, in the order of the kernel; also in ``sights``."""
        found = [self.sight(one) for batch in self.session.drain_remaining() for one in batch]
        self.sights += found
        return found

    def until(self, fact: Callable[[Sequence[S]], bool]) -> None:
        """Read until ``fact`` is true of ``sights``."""
        end = time.monotonic() + PATIENCE
        while not fact(self.sights):
            self.read()
            assert time.monotonic() < end, "it is not seen"


@contextlib.contextmanager
def session_of(*words: str) -> Iterator[Session]:
    """A session of ``pypwru`` with these words."""
    config = parse(words)
    assert isinstance(config, Config)
    log = Log(None)
    filters = compile_filters(config, log)
    with manual_stop() as wish, open_session(config, filters, log, wish) as session:
        yield session
