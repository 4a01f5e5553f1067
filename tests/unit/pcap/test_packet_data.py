"""PacketDataReader on a ring with the kernel's layout."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pypwru.config import Config
from pypwru.errors import KernelError
from pypwru.pcap import packet_data
from pypwru.pcap.packet_data import (
    CHUNK_HEADER,
    PART_BYTES,
    PacketCapture,
    PacketDataReader,
    open_packet_data,
)
from pypwru.ring.counters import Counters
from pypwru.ring.mapping import BUSY, DISCARDED
from pypwru.wire.record import Record
from tests.support import records
from tests.support.layouts import layout_of
from tests.support.records import configured

SIZE = 8192
SKB, TIME = 0xFFFF888012345600, 123_456_789
PAGE = mmap.PAGESIZE


class FakeRing:
    """A ring as the kernel writes it: positions, headers, and data that wraps."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self._memory = mmap.mmap(self.fd, 2 * PAGE + 2 * SIZE)
        self.position = 0

    def _store(self, at: int, octets: bytes) -> None:
        """Store bytes in both mappings of the data pages."""
        for index, octet in enumerate(octets):
            start = (at + index) % SIZE + 2 * PAGE
            self._memory[start] = self._memory[start + SIZE] = octet

    def reserve(self, length: int) -> int:
        """Reserve a record, which is busy then, and return its position."""
        at = self.position
        self._store(at, struct.pack("=II", length | BUSY, 0))
        self.position += 8 + -(-length // 8) * 8
        self._memory[PAGE : PAGE + 8] = self.position.to_bytes(8, "little")
        return at

    def submit(self, at: int, octets: bytes, size: int, flags: int = 0) -> None:
        self._store(at + 8, octets)
        self._store(at, struct.pack("=I", size | flags))

    def write(self, octets: bytes, size: int, skb: int = SKB, cpu: int = 0, flags: int = 0) -> None:
        """Write a chunk with space for ``size`` bytes."""
        at = self.reserve(CHUNK_HEADER.size + size)
        header = CHUNK_HEADER.pack(skb, TIME, cpu, len(octets))
        self.submit(at, header + octets, CHUNK_HEADER.size + size, flags)

    @property
    def consumed(self) -> int:
        return int.from_bytes(self._memory[:8], "little")


@contextmanager
def open_reader(ring: FakeRing, flags: str = "") -> Iterator[PacketDataReader]:
    config = capture_config(flags)
    layout, snaplen = layout_of(config), config.pcap_snaplen
    with open_packet_data(ring.fd, config.buffer_size, layout, snaplen) as reader:
        yield reader


def capture_config(flags: str = "") -> Config:
    return configured(f"--output-pcap a.pcap --output-nft=false --buffer-size 8k {flags}")


def record(
    octets: int, length: int = 0, skb: int = SKB, cpu: int = 0, lost: int = 0, layer: int = 2
) -> Record:
    part = PART_BYTES.pack(length or octets, octets, 0x81000005, lost, 1, 7, layer, 4, 1)
    packet = records.packet(skb, cpu, 1)
    tail = records.tail(capture_config(), bytes=part)
    return records.event(packet, 1, records.flow(), ktime=TIME, tail=tail)


def octets(capture: PacketCapture | None) -> bytes | None:
    return capture and capture.data


def test_capture_of_an_event() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        ring.write(b"abc", 256)
        assert reader.pop(record(3, 10)) == (b"abc", 10, 0x81000005, 1, 7, 2, 4, True, 0)
        assert (reader.lost, reader.truncated) == (0, 1)
    assert ring.consumed == ring.position


def test_chunks_are_joined_in_order() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        for part in (b"a" * 256, b"b" * 100, b"c"):
            ring.write(part, 256)
            ring.write(b"other", 256, skb=SKB + 1)
        reader.read_chunks()
        assert octets(reader.pop(record(357))) == b"a" * 256 + b"b" * 100 + b"c"
        assert octets(reader.pop(record(15, skb=SKB + 1))) == b"other" * 3
        assert (reader.lost, reader.truncated) == (0, 0)


def test_data_wraps_in_ring() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        for index in range(100):
            content = bytes([index]) * (index + 150)
            ring.write(content, 256)
            assert octets(reader.pop(record(len(content)))) == content


def test_chunks_are_matched_by_cpu() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        ring.write(b"one", 256, cpu=1)
        ring.write(b"two", 256, cpu=300)
        assert octets(reader.pop(record(3, cpu=300))) == b"two"
        assert octets(reader.pop(record(3, cpu=1))) == b"one"


def test_record_without_capture() -> None:
    with open_reader(FakeRing()) as reader:
        assert reader.pop(record(0, layer=0)) is None
        assert reader.lost == 0


def test_unreadable_packet_is_truncated() -> None:
    with open_reader(FakeRing()) as reader:
        assert octets(reader.pop(record(0, 60))) == b""
        assert (reader.lost, reader.truncated) == (0, 1)


def test_snaplen_is_no_truncation() -> None:
    ring = FakeRing()
    with open_reader(ring, "--pcap-snaplen 3") as reader:
        ring.write(b"abc", 256)
        assert octets(reader.pop(record(3, 1500))) == b"abc"
        assert reader.truncated == 0


def test_discarded_chunk_is_skipped() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        ring.write(b"abc", 256)
        ring.write(b"xxx", 4096, flags=DISCARDED)
        ring.write(b"def", 256)
        assert octets(reader.pop(record(6))) == b"abcdef"


def test_empty_ring_is_not_waited_for() -> None:
    """The data of the record is lost."""
    with open_reader(FakeRing()) as reader:
        reader._pause = lambda seconds: pytest.fail("it waited")
        assert reader.pop(record(3)) is None
        assert reader.pop(record(3)) is None
        assert reader.lost == 2


def test_reader_waits_for_busy_chunk() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        busy = ring.reserve(CHUNK_HEADER.size + 256)
        ring.write(b"abc", 256)

        def submit_busy(seconds: float) -> None:
            header = CHUNK_HEADER.pack(SKB + 1, TIME, 1, 5)
            ring.submit(busy, header + b"other", CHUNK_HEADER.size + 256)

        reader._pause = submit_busy
        assert octets(reader.pop(record(3))) == b"abc"
        assert octets(reader.pop(record(5, skb=SKB + 1, cpu=1))) == b"other"
        assert reader.lost == 0


def test_wait_for_busy_chunk_is_bounded() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        pauses: list[float] = []
        reader._pause = pauses.append
        ring.reserve(CHUNK_HEADER.size + 256)
        ring.write(b"abc", 256)
        assert reader.pop(record(3)) is None
        assert reader.lost == 1 and sum(pauses) < 1


def test_evicted_chunks_are_lost() -> None:
    ring = FakeRing()
    with open_reader(ring) as reader:
        reader._max_kept_bytes = 1000
        for index in range(20):
            ring.write(bytes([index]) * 200, 256, skb=index)
            reader.read_chunks()
        found = [octets(reader.pop(record(200, skb=index))) for index in range(20)]
        assert found == [None] * 15 + [bytes([index]) * 200 for index in range(15, 20)]
        assert reader.lost == 15


def test_losses_are_counted_per_cpu() -> None:
    with open_reader(FakeRing()) as reader:
        counts = [(0, 3), (1, 2), (0, 3), (0, 10), (1, 2), (0, 9), (0, 12)]
        found = [reader.pop(record(0, 60, cpu=cpu, lost=lost)) for cpu, lost in counts]
        assert [capture.lost_before for capture in found if capture] == [3, 2, 0, 7, 0, 0, 2]


def test_loss_counter_wraps() -> None:
    with open_reader(FakeRing()) as reader:
        counts = (1 << 31) - 1, (1 << 32) - 3, 1
        found = [reader.pop(record(0, 60, lost=lost)) for lost in counts]
        assert [capture.lost_before for capture in found if capture] == [
            (1 << 31) - 1,
            (1 << 31) - 2,
            4,
        ]


def test_summary_of_losses() -> None:
    with open_reader(FakeRing()) as reader:
        reader.pop(record(3))
        reader.pop(record(0, 60))
        assert reader.summarize(Counters(capture_requested=9, capture_no_room=4)) == {
            "capture_requested": 9,
            "capture_truncated": 1,
            "lost_packets": 5,
        }


def test_unmappable_ring_suggests_buffer_size() -> None:
    with open(os.devnull, "rb") as nothing:
        config = capture_config()
        with (
            pytest.raises(KernelError, match=r"ring buffer of 8192 bytes: .*--buffer-size"),
            open_packet_data(
                nothing.fileno(), config.buffer_size, layout_of(config), config.pcap_snaplen
            ),
        ):
            pass


def test_reader_keeps_more_than_default_ring() -> None:
    assert packet_data._MAX_KEPT_BYTES >= 16 << 20
