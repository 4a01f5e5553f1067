"""How batches are taken and cut; the ring itself is judged by the kernel."""

from __future__ import annotations

import struct

import pytest

from pypwru.packets.limit import EventLimit
from pypwru.ring import drain as draining
from pypwru.ring.drain import drain, drain_remaining
from pypwru.ring.reader import RingReader, count_committed
from pypwru.signals import StopRequest
from pypwru.wire.record import EVENT_SIZE, RawRecord, Record


def record(skb: int) -> Record:
    return Record(struct.pack("=QIHH16sQ", skb, 1, 0, 0, b"test", 0), bytes(16), 0, b"")


@pytest.mark.parametrize(
    ("lengths", "ready"),
    [
        ([EVENT_SIZE] * 3, 3),
        ([EVENT_SIZE, EVENT_SIZE | 1 << 31, EVENT_SIZE], 1),
        ([1 << 31], 0),
        ([], 0),
    ],
)
def test_a_record_under_way_holds_back_those_after_it(lengths: list[int], ready: int) -> None:
    assert count_committed(lengths, EVENT_SIZE) == ready


class Batches(RingReader):
    """A ring that gives what it is told; without an mmap."""

    def __init__(self, *batches: int, stop: StopRequest | None = None) -> None:
        self.batches: list[list[RawRecord]] = [[record(1)] * count for count in batches]
        self.interrupts = stop

    def watch(self, fd: int) -> None:
        pass

    def read(self) -> list[RawRecord]:
        return self.batches.pop(0) if self.batches else []

    def wait(self) -> None:
        if not self.batches:
            assert self.interrupts, "nothing left, and nobody stops"
            self.interrupts.received = True


def test_it_gives_batches_until_somebody_wants_the_end() -> None:
    stop = StopRequest(-1)
    ring = Batches(2, 1, stop=stop)
    assert [len(batch) for batch in drain(ring, stop)] == [2, 1]
    stop.received = True
    assert list(drain(Batches(3), stop)) == [], "what the ring holds is the rest"


def test_an_idle_ring_gives_empty_batches() -> None:
    """What is held until its time comes is looked at then."""
    stop = StopRequest(-1)
    batches = drain(Batches(1, 0, 0, stop=stop), stop)
    assert [len(batch) for batch in batches] == [1, 0, 0]


def test_the_rest_is_all_that_the_ring_holds() -> None:
    assert [len(batch) for batch in drain_remaining(Batches(3, 2))] == [3, 2]


def test_it_looks_around_twice_a_second_however_many_records_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, looks = StopRequest(-1), list[int]()
    ring = Batches(*[1] * 20, stop=stop)
    clock = (tick / 10 for tick in range(1000))
    monkeypatch.setattr(draining, "monotonic", lambda: next(clock))

    list(drain(ring, stop, [lambda: looks.append(1)]))
    assert 2 <= len(looks) <= 5


def test_the_limit_cuts_the_batch() -> None:
    limit, one = EventLimit(3), record(1)
    assert list(limit.take([one, one])) == [one, one] and not limit.is_reached
    assert list(limit.take([one, one])) == [one] and limit.is_reached
    assert not limit.take([one])


def test_no_limit() -> None:
    limit = EventLimit(0)
    assert len(limit.take([record(1)] * 50)) == 50 and not limit.is_reached
