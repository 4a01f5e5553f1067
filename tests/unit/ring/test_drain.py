"""How batches are read and truncated; tests/native has the ring of the kernel."""

from __future__ import annotations

import struct

import pytest

from pypwru.packets.limit import EventLimit
from pypwru.ring import drain as drain_module
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
def test_uncommitted_record_delays_later(lengths: list[int], ready: int) -> None:
    assert count_committed(lengths, EVENT_SIZE) == ready


class FakeRing(RingReader):
    """A ring that returns given batches, without an mmap."""

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


def test_drain_ends_at_stop_request() -> None:
    stop = StopRequest(-1)
    ring = FakeRing(2, 1, stop=stop)
    assert [len(batch) for batch in drain(ring, stop)] == [2, 1]
    stop.received = True
    assert list(drain(FakeRing(3), stop)) == [], "what the ring holds is the rest"


def test_idle_ring_has_empty_batches() -> None:
    """An empty batch lets stages release events that wait for their time."""
    stop = StopRequest(-1)
    batches = drain(FakeRing(1, 0, 0, stop=stop), stop)
    assert [len(batch) for batch in batches] == [1, 0, 0]


def test_drain_remaining_empties_the_ring() -> None:
    assert [len(batch) for batch in drain_remaining(FakeRing(3, 2))] == [3, 2]


def test_pollers_run_twice_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, polls = StopRequest(-1), list[int]()
    ring = FakeRing(*[1] * 20, stop=stop)
    clock = (tick / 10 for tick in range(1000))
    monkeypatch.setattr(drain_module, "monotonic", lambda: next(clock))

    list(drain(ring, stop, [lambda: polls.append(1)]))
    assert 2 <= len(polls) <= 5


def test_limit_truncates_the_batch() -> None:
    limit, event = EventLimit(3), record(1)
    assert list(limit.take([event, event])) == [event, event] and not limit.is_reached
    assert list(limit.take([event, event])) == [event] and limit.is_reached
    assert not limit.take([event])


def test_no_limit() -> None:
    limit = EventLimit(0)
    assert len(limit.take([record(1)] * 50)) == 50 and not limit.is_reached
