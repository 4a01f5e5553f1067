"""The bytes of packets between their ring and who wants them; the ring is the kernel's layout."""

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
from pypwru.wire.layout import record_layout
from pypwru.wire.record import Record
from tests.support import records
from tests.support.records import configured

SIZE = 8192
SKB, TIME = 0xFFFF888012345600, 123_456_789
PAGE = mmap.PAGESIZE


class Producer:
    """What the kernel does to a ring: positions, headers, and data that wraps."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self._memory = mmap.mmap(self.fd, 2 * PAGE + 2 * SIZE)
        self.position = 0

    def _put(self, at: int, octets: bytes) -> None:
        """Both of the pages that the kernel maps twice."""
        for index, octet in enumerate(octets):
            start = (at + index) % SIZE + 2 * PAGE
            self._memory[start] = self._memory[start + SIZE] = octet

    def reserve(self, length: int) -> int:
        """A record that is being written; its position."""
        at = self.position
        self._put(at, struct.pack("=II", length | BUSY, 0))
        self.position += 8 + -(-length // 8) * 8
        self._memory[PAGE : PAGE + 8] = self.position.to_bytes(8, "little")
        return at

    def submit(self, at: int, octets: bytes, room: int, flags: int = 0) -> None:
        self._put(at + 8, octets)
        self._put(at, struct.pack("=I", room | flags))

    def write(self, octets: bytes, room: int, skb: int = SKB, cpu: int = 0, flags: int = 0) -> None:
        """A chunk with room for so many octets."""
        at = self.reserve(CHUNK_HEADER.size + room)
        header = CHUNK_HEADER.pack(skb, TIME, cpu, len(octets))
        self.submit(at, header + octets, CHUNK_HEADER.size + room, flags)

    @property
    def consumed(self) -> int:
        return int.from_bytes(self._memory[:8], "little")


@contextmanager
def store(producer: Producer, flags: str = "") -> Iterator[PacketDataReader]:
    config = asked(flags)
    with open_packet_data(config, {"packets": producer.fd}, record_layout(config)) as made:
        assert made
        yield made


def asked(flags: str = "") -> Config:
    return configured(f"--output-pcap a.pcap --output-nft=false --buffer-size 8k {flags}")


def record(
    octets: int, length: int = 0, skb: int = SKB, cpu: int = 0, lost: int = 0, layer: int = 2
) -> Record:
    part = PART_BYTES.pack(length or octets, octets, 0x81000005, lost, 1, 7, layer, 4, 1)
    packet = records.packet(skb, cpu, 1)
    tail = records.tail(asked(), bytes=part)
    return records.event(packet, 1, records.flow(), ktime=TIME, tail=tail)


def octets(captured: PacketCapture | None) -> bytes | None:
    return captured and captured.data


def test_what_is_told_of_a_packet() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        producer.write(b"abc", 256)
        assert bytes_.pop(record(3, 10)) == (b"abc", 10, 0x81000005, 1, 7, 2, 4, True, 0)
        assert (bytes_.lost, bytes_.truncated) == (0, 1)
    assert producer.consumed == producer.position


def test_chunks_are_put_together_in_their_order() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        for part in (b"a" * 256, b"b" * 100, b"c"):
            producer.write(part, 256)
            producer.write(b"other", 256, skb=SKB + 1)
        bytes_.read_chunks()
        assert octets(bytes_.pop(record(357))) == b"a" * 256 + b"b" * 100 + b"c"
        assert octets(bytes_.pop(record(15, skb=SKB + 1))) == b"other" * 3
        assert (bytes_.lost, bytes_.truncated) == (0, 0)


def test_what_wraps_is_one_piece() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        for index in range(100):
            content = bytes([index]) * (index + 150)
            producer.write(content, 256)
            assert octets(bytes_.pop(record(len(content)))) == content


def test_sights_of_a_packet_differ_by_cpu_and_time() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        producer.write(b"one", 256, cpu=1)
        producer.write(b"two", 256, cpu=300)
        assert octets(bytes_.pop(record(3, cpu=300))) == b"two"
        assert octets(bytes_.pop(record(3, cpu=1))) == b"one"


def test_a_record_that_tells_nothing() -> None:
    with store(Producer()) as bytes_:
        assert bytes_.pop(record(0, layer=0)) is None
        assert bytes_.lost == 0


def test_a_packet_of_which_nothing_could_be_read_is_cut() -> None:
    with store(Producer()) as bytes_:
        assert octets(bytes_.pop(record(0, 60))) == b""
        assert (bytes_.lost, bytes_.truncated) == (0, 1)


def test_what_is_beyond_the_snaplen_is_not_cut() -> None:
    producer = Producer()
    with store(producer, "--pcap-snaplen 3") as bytes_:
        producer.write(b"abc", 256)
        assert octets(bytes_.pop(record(3, 1500))) == b"abc"
        assert bytes_.truncated == 0


def test_a_chunk_that_could_not_be_filled_is_passed_over() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        producer.write(b"abc", 256)
        producer.write(b"xxx", 4096, flags=DISCARDED)
        producer.write(b"def", 256)
        assert octets(bytes_.pop(record(6))) == b"abcdef"


def test_bytes_that_never_come_are_lost_without_waiting() -> None:
    """The ring has nothing more: there is nobody to wait for."""
    with store(Producer()) as bytes_:
        bytes_._pause = lambda seconds: pytest.fail("it waited")
        assert bytes_.pop(record(3)) is None
        assert bytes_.pop(record(3)) is None
        assert bytes_.lost == 2


def test_it_waits_for_another_cpus_chunk() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        under_way = producer.reserve(CHUNK_HEADER.size + 256)
        producer.write(b"abc", 256)

        def finished(seconds: float) -> None:
            header = CHUNK_HEADER.pack(SKB + 1, TIME, 1, 5)
            producer.submit(under_way, header + b"other", CHUNK_HEADER.size + 256)

        bytes_._pause = finished
        assert octets(bytes_.pop(record(3))) == b"abc"
        assert octets(bytes_.pop(record(5, skb=SKB + 1, cpu=1))) == b"other"
        assert bytes_.lost == 0


def test_it_does_not_wait_for_ever() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        waited: list[float] = []
        bytes_._pause = waited.append
        producer.reserve(CHUNK_HEADER.size + 256)
        producer.write(b"abc", 256)
        assert bytes_.pop(record(3)) is None
        assert bytes_.lost == 1 and sum(waited) < 1


def test_what_is_kept_is_bounded_and_what_was_thrown_away_is_lost() -> None:
    producer = Producer()
    with store(producer) as bytes_:
        bytes_._max_kept_bytes = 1000
        for index in range(20):
            producer.write(bytes([index]) * 200, 256, skb=index)
            bytes_.read_chunks()
        found = [octets(bytes_.pop(record(200, skb=index))) for index in range(20)]
        assert found == [None] * 15 + [bytes([index]) * 200 for index in range(15, 20)]
        assert bytes_.lost == 15


def test_what_was_lost_between_two_packets_of_a_cpu() -> None:
    with store(Producer()) as bytes_:
        counts = [(0, 3), (1, 2), (0, 3), (0, 10), (1, 2), (0, 9), (0, 12)]
        found = [bytes_.pop(record(0, 60, cpu=cpu, lost=lost)) for cpu, lost in counts]
        assert [one.lost_before for one in found if one] == [3, 2, 0, 7, 0, 0, 2]


def test_the_count_of_what_was_lost_may_wrap() -> None:
    with store(Producer()) as bytes_:
        counts = (1 << 31) - 1, (1 << 32) - 3, 1
        found = [bytes_.pop(record(0, 60, lost=lost)) for lost in counts]
        assert [one.lost_before for one in found if one] == [(1 << 31) - 1, (1 << 31) - 2, 4]


def test_the_account() -> None:
    with store(Producer()) as bytes_:
        bytes_.pop(record(3))
        bytes_.pop(record(0, 60))
        assert bytes_.summarize(Counters(capture_requested=9, capture_no_room=4)) == {
            "capture_requested": 9,
            "capture_truncated": 1,
            "lost_packets": 5,
        }


def test_a_ring_that_cannot_be_mapped_names_the_cure() -> None:
    with open(os.devnull, "rb") as nothing:
        config = asked()
        with (
            pytest.raises(KernelError, match=r"ring buffer of 8192 bytes: .*--buffer-size"),
            open_packet_data(config, {"packets": nothing.fileno()}, record_layout(config)),
        ):
            pass


def test_a_run_that_asks_for_no_packets_has_no_store() -> None:
    config = configured("")
    with open_packet_data(config, {}, record_layout(config)) as made:
        assert made is None


def test_the_store_has_more_room_than_the_ring() -> None:
    assert packet_data._MAX_KEPT_BYTES >= 16 << 20
