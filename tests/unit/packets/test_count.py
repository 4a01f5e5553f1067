"""How packets are counted by what their records say that they are."""

from __future__ import annotations

import struct

import pytest

from pypwru.packets import count as packets_count
from pypwru.packets.count import PacketCounter, make_packet_counter
from pypwru.wire.layout import record_layout
from pypwru.wire.record import Record, header_constants
from tests.support.records import configured

CONFIG = configured("--sample-rate 2")
WIRE, KINDS = record_layout(CONFIG), header_constants()
PART = WIRE.parts["packet_id"]


def record(skb: int, packet: int, kind: str = "EVENT_FUNCTION") -> Record:
    tail = bytearray(WIRE.tail_size)
    tail[PART.offset : PART.offset + PART.size] = packet.to_bytes(8, "little")
    head = struct.pack("=QIHH16sQ", skb, 1, 0, KINDS[kind], b"test", 0)
    return Record(head, bytes(16), 0, b"", bytes(tail))


def count(*records: Record) -> int:
    packets = PacketCounter(WIRE)
    packets.add(records)
    return packets.total


def test_clones_are_one_packet_and_an_address_can_be_of_many() -> None:
    assert count(record(1, 5), record(2, 5), record(1, 5)) == 1
    assert count(record(1, 5), record(1, 6), record(1, 1 << 40 | 5)) == 3


def test_free_records_are_no_events() -> None:
    assert count(record(1, 5, "EVENT_SKB_FREE")) == 0


def test_numbers_made_of_the_time_are_packets() -> None:
    """next_sequence() of bpf/skb/new_packet.h: three interrupts came in between."""
    times = [1 << 39 | number for number in (1, 1 << 38, (1 << 39) - 1)]
    packets = PacketCounter(WIRE)
    packets.add([record(1, number) for number in (*times, 5, 6, 1 << 40 | times[0], *times)])
    assert packets.total == 6


def test_a_packet_that_comes_again_late_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets_count, "_MAX_RECENT", 10)
    packets = PacketCounter(WIRE)
    batch, other = [record(1, number) for number in range(1, 10_001)], [record(1, 3 << 40 | 70_000)]
    for _ in range(3):
        packets.add(batch)
        packets.add(other)
    assert packets.total == 10_001


def test_what_is_kept_is_bounded_and_late_numbers_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packets_count, "_MAX_BLOCKS", 8)
    packets, last = PacketCounter(WIRE), 1 << 22
    for number in range(0, last, 1 << 12):  # one of each block
        packets.add([record(1, number + 1)])
    assert packets.total == 1 << 10
    (known,) = packets._sequences.values()
    assert sum(map(len, known._blocks.values())) == 8 * (1 << 9)
    packets.add([record(1, 1), record(1, 2)])
    packets.add([record(1, last - 1), record(1, last - 1)])
    assert packets.total == (1 << 10) + 1


def test_an_address_is_no_packet() -> None:
    assert isinstance(make_packet_counter(WIRE), PacketCounter)
    assert make_packet_counter(record_layout(configured(""))) is None
