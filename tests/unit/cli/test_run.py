"""How batches reach the outputs; whole runs are in tests/native."""

from __future__ import annotations

from collections.abc import Sequence

from pypwru.cli.run import Dispatcher
from pypwru.errors import OutputClosed, OutputError
from pypwru.wire.record import RawRecord, Record, header_constants

SKB_FREE = header_constants()["EVENT_SKB_FREE"]
RECORD = Record(b"", b"", 0, b"")


class ClosingOutput:
    """An output that its reader closes in the second batch, after ``got`` events of it."""

    def __init__(self, got: int | None = None) -> None:
        self.batches: list[int] = []
        self.got = got

    def show(self, batch: Sequence[RawRecord]) -> None:
        self.batches.append(len(batch))
        if self.got is not None and len(self.batches) == 2:
            raise OutputClosed(self.got)


def test_every_output_gets_every_batch() -> None:
    first, second = ClosingOutput(), ClosingOutput()
    dispatcher = Dispatcher([first, second])
    assert dispatcher.consume([[RECORD, RECORD], [], [RECORD]])
    assert first.batches == second.batches == [2, 0, 1]
    assert dispatcher.count == 3


def test_closed_output_counts_its_events() -> None:
    dispatcher = Dispatcher([ClosingOutput(got=1)])
    assert not dispatcher.consume([[RECORD, RECORD], [RECORD, RECORD, RECORD], [RECORD]])
    assert dispatcher.count == 3


def raise_output_error() -> None:
    raise OutputError("something else")


class FullOutput:
    """An output that is full after one event of its second batch."""

    def __init__(self) -> None:
        self.batches = 0

    def show(self, batch: Sequence[RawRecord]) -> None:
        self.batches += 1
        if self.batches == 2:
            error = OutputError("no space")
            error.events_written = 1
            raise error


def test_full_output_stops_and_counts() -> None:
    observer = ClosingOutput()
    dispatcher = Dispatcher([FullOutput()], [observer])
    assert not dispatcher.consume([[RECORD, RECORD], [RECORD, RECORD, RECORD], [RECORD]])
    assert dispatcher.count == 3 and observer.batches == [2, 1]
    assert str(dispatcher.failure) == "no space"
    assert not dispatcher.attempt(raise_output_error)
    assert str(dispatcher.failure) == "no space", "the first is the reason"


def test_observers_get_frees_too() -> None:
    free = RECORD._replace(packet=bytes(14) + SKB_FREE.to_bytes(2, "little"))
    observer, batch_counts = ClosingOutput(), list[int]()
    dispatcher = Dispatcher([ClosingOutput(got=1)], [observer], batch_counts.append)
    assert not dispatcher.consume([[RECORD, free], [RECORD, RECORD, free], [RECORD]])
    assert observer.batches == [2, 1]
    assert dispatcher.count == 2
    assert batch_counts == [1]
