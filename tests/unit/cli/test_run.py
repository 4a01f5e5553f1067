"""How the command line shows batches; whole runs are in tests/native."""

from __future__ import annotations

from collections.abc import Sequence

from pypwru.cli.run import Dispatcher
from pypwru.errors import OutputClosed, OutputError
from pypwru.wire.record import RawRecord, Record, header_constants

END = header_constants()["EVENT_SKB_FREE"]
ONE = Record(b"", b"", 0, b"")


class Reader:
    """An output that goes away with the second of its batches, of which it still got some."""

    def __init__(self, got: int | None = None) -> None:
        self.batches: list[int] = []
        self.got = got

    def show(self, batch: Sequence[RawRecord]) -> None:
        self.batches.append(len(batch))
        if self.got is not None and len(self.batches) == 2:
            raise OutputClosed(self.got)


def test_every_output_gets_every_batch() -> None:
    first, second = Reader(), Reader()
    shown = Dispatcher([first, second])
    assert shown.consume([[ONE, ONE], [], [ONE]])
    assert first.batches == second.batches == [2, 0, 1]
    assert shown.count == 3


def test_a_reader_that_went_away_counts_what_it_got() -> None:
    shown = Dispatcher([Reader(got=1)])
    assert not shown.consume([[ONE, ONE], [ONE, ONE, ONE], [ONE]])
    assert shown.count == 3


def refuse() -> None:
    raise OutputError("something else")


class Full:
    """An output that has room for some of its second batch."""

    def __init__(self) -> None:
        self.batches = 0

    def show(self, batch: Sequence[RawRecord]) -> None:
        self.batches += 1
        if self.batches == 2:
            error = OutputError("no space")
            error.events_written = 1
            raise error


def test_an_output_that_is_full_ends_it_and_counts_what_it_has() -> None:
    follower = Reader()
    shown = Dispatcher([Full()], [follower])
    assert not shown.consume([[ONE, ONE], [ONE, ONE, ONE], [ONE]])
    assert shown.count == 3 and follower.batches == [2, 1]
    assert str(shown.failure) == "no space"
    assert not shown.attempt(refuse)
    assert str(shown.failure) == "no space", "the first is the reason"


def test_who_follows_gets_ends_too_and_only_what_was_shown() -> None:
    end = ONE._replace(packet=bytes(14) + END.to_bytes(2, "little"))
    follower, told = Reader(), list[int]()
    shown = Dispatcher([Reader(got=1)], [follower], told.append)
    assert not shown.consume([[ONE, end], [ONE, ONE, end], [ONE]])
    assert follower.batches == [2, 1]
    assert shown.count == 2
    assert told == [1]
