"""PacketCounter: the number of packets in records."""

from __future__ import annotations

import struct

import pytest

from pypwru.packets import count as packets_count
from pypwru.packets.count import PacketCounter, make_packet_counter
from pypwru.wire.record import Record, header_constants
from tests.support.layouts import layout_of
from tests.support.records import configured

CONFIG = configured("--sample-rate 2")
WIRE, KINDS = layout_of(CONFIG), header_constants()
PART = WIRE.parts["packet_id"]


def record(skb: int, packet_id: int, kind: str = "EVENT_FUNCTION") -> Record:
    tail = bytearray(WIRE.tail_size)
    tail[PART.offset : PART.offset + PART.size] = packet_id.to_bytes(8, "little")
    head = struct.pack("=QIHH16sQ", skb, 1, 0, KINDS[kind], b"test", 0)
    return Record(head, bytes(16), 0, b"", bytes(tail))


def count(*records: Record) -> int:
    counter = PacketCounter(WIRE)
    counter.add(records)
    return counter.total


def test_packets_are_counted_by_packet_id() -> None:
    assert count(record(1, 5), record(2, 5), record(1, 5)) == 1
    assert count(record(1, 5), record(1, 6), record(1, 1 << 40 | 5)) == 3


def test_free_records_are_not_counted() -> None:
    assert count(record(1, 5, "EVENT_SKB_FREE")) == 0


def test_packet_ids_of_time_are_counted() -> None:
    """As next_sequence() of bpf/skb/new_packet.h makes them when interrupts come in between."""
    times = [1 << 39 | number for number in (1, 1 << 38, (1 << 39) - 1)]
    counter = PacketCounter(WIRE)
    counter.add([record(1, number) for number in (*times, 5, 6, 1 << 40 | times[0], *times)])
    assert counter.total == 6


def test_late_packet_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets_count, "_MAX_RECENT", 10)
    counter = PacketCounter(WIRE)
    batch, other = [record(1, number) for number in range(1, 10_001)], [record(1, 3 << 40 | 70_000)]
    for _ in range(3):
        counter.add(batch)
        counter.add(other)
    assert counter.total == 10_001


def test_blocks_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A packet_id in an evicted block is taken for one that was counted."""
    monkeypatch.setattr(packets_count, "_MAX_BLOCKS", 8)
    counter, last = PacketCounter(WIRE), 1 << 22
    for number in range(0, last, 1 << 12):  # one of each block
        counter.add([record(1, number + 1)])
    assert counter.total == 1 << 10
    (sequence,) = counter._sequences.values()
    assert sum(map(len, sequence._blocks.values())) == 8 * (1 << 9)
    counter.add([record(1, 1), record(1, 2)])
    counter.add([record(1, last - 1), record(1, last - 1)])
    assert counter.total == (1 << 10) + 1


def test_counter_needs_packet_ids() -> None:
    assert isinstance(make_packet_counter(WIRE), PacketCounter)
    assert make_packet_counter(layout_of(configured(""))) is None
