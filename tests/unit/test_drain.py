"""How packets are counted, and how a trace ends; the ring itself is judged by the kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from pypwru.events import drain as draining
from pypwru.events.drain import CLOSED, LIMIT, SIGNAL, PacketCount, drain
from pypwru.events.record import EVENT_SIZE, Record
from pypwru.events.ring import Ring, committed
from pypwru.output.sink import OutputClosed
from pypwru.signals import Interrupts

FREE, OTHER = 0xFFFFFFFF81000010, 0xFFFFFFFF81000020
NAMES = {FREE: "kfree_skbmem", OTHER: "ip_rcv"}


def record(skb: int, address: int = OTHER, cpu: int = 0) -> Record:
    packet = struct.pack("=QIHH16s", skb, 1, cpu, 0, b"test")
    return Record(packet, struct.pack("=QQ", address, 0), 0, b"")


def count(*records: Record) -> int:
    packets = PacketCount(NAMES)
    packets.add(records)
    return packets.total


def test_sights_of_one_packet_count_once() -> None:
    assert count(record(1), record(1, cpu=1), record(1)) == 1
    assert count(record(1), record(2), record(1)) == 2


def test_an_address_that_was_freed_counts_again() -> None:
    assert count(record(1), record(1, FREE), record(1)) == 2
    assert count(record(1), record(1, FREE), record(2)) == 2


def test_a_packet_seen_only_at_its_end_counts() -> None:
    assert count(record(1, FREE), record(1, FREE)) == 2


def test_batches_are_one_stream() -> None:
    packets = PacketCount(NAMES)
    for _ in range(3):
        packets.add([record(1)])
    assert packets.total == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "_LIVE", 10)
    packets = PacketCount({})
    packets.add([record(skb) for skb in range(1, 12)])
    assert packets.total == 11
    packets.add([record(1)])
    assert packets.total == 12, "forgotten, hence counted again"


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
    assert committed(lengths, EVENT_SIZE) == ready


class Batches(Ring):
    """A ring that gives what it is told; without an mmap."""

    def __init__(self, *batches: int, stop: Interrupts | None = None) -> None:
        self.batches = [[record(1)] * count for count in batches]
        self.interrupts = stop
        self.stopped = False

    def watch(self, fd: int) -> None:
        pass

    def read(self) -> list[Record]:
        return self.batches.pop(0) if self.batches else []

    def wait(self) -> None:
        if not self.batches:
            assert self.interrupts, "nothing left, and nobody stops"
            self.interrupts.received = True

    def stop(self) -> None:
        self.stopped = True


def test_a_signal_prints_what_the_ring_holds() -> None:
    stop = Interrupts(-1)
    stop.received = True
    ring, shown = Batches(3, 2), list[int]()

    def show(batch: Sequence[Record]) -> bool:
        shown.append(len(batch))
        return False

    assert drain(ring, show, PacketCount({}), stop) == SIGNAL
    assert shown == [3, 2]
    assert ring.stopped


def test_the_limit_ends_it() -> None:
    ring = Batches(1, 1)
    assert drain(ring, lambda batch: True, PacketCount({}), Interrupts(-1)) == LIMIT
    assert ring.stopped and len(ring.batches) == 1


def test_a_reader_that_went_away_ends_it() -> None:
    def show(batch: Sequence[Record]) -> bool:
        raise OutputClosed()

    ring = Batches(1)
    assert drain(ring, show, PacketCount({}), Interrupts(-1)) == CLOSED
    assert ring.stopped


def test_an_idle_ring_waits_for_the_signal() -> None:
    stop = Interrupts(-1)
    assert drain(Batches(2, stop=stop), lambda batch: False, PacketCount({}), stop) == SIGNAL


def test_it_looks_around_twice_a_second_however_many_records_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, looks = Interrupts(-1), list[int]()
    ring = Batches(*[1] * 20, stop=stop)
    clock = (tick / 10 for tick in range(1000))
    monkeypatch.setattr(draining, "monotonic", lambda: next(clock))

    drain(ring, lambda batch: False, PacketCount({}), stop, [lambda: looks.append(1)])
    assert 2 <= len(looks) <= 5
