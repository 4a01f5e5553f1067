"""Records of a session in this process, which no output prints."""

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

TIMEOUT = 60  # s

S = TypeVar("S")


@dataclass
class RecordReader(Generic[S]):
    """A running trace; ``read`` appends to ``events``."""

    session: Session
    events: list[S] = field(default_factory=list)

    def decode(self, record: RawRecord) -> S:
        """Decode a record to an event."""
        raise NotImplementedError

    def name(self, record: RawRecord) -> str:
        """Return the name of the record's target."""
        address = int.from_bytes(record[1][:8], "little")
        return self.session.names.function(address, 0, 0).partition("(")[0]

    def read(self) -> list[S]:
        """Return all that is on the ring now, in the order of the kernel; also appended to
        ``events``.
        """
        found = [self.decode(one) for batch in self.session.drain_remaining() for one in batch]
        self.events += found
        return found

    def until(self, fact: Callable[[Sequence[S]], bool]) -> None:
        """Read until ``fact`` is true of ``events``."""
        end = time.monotonic() + TIMEOUT
        while not fact(self.events):
            self.read()
            assert time.monotonic() < end, "no such event"


@contextlib.contextmanager
def session_of(*words: str) -> Iterator[Session]:
    """Open the session of ``pypwru`` with these arguments."""
    config = parse(words)
    assert isinstance(config, Config)
    log = Log(None)
    filters = compile_filters(config, log)
    with manual_stop() as stop, open_session(config, filters, log, stop) as session:
        yield session
