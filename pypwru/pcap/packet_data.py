"""Packet data: chunks from the ring ``packets``, joined for the events that they belong to.

A handler submits all chunks of a packet before the event record. So this ring is drained before
events are processed, and chunks are kept by address, time and CPU until their event is; the oldest
are evicted when the memory for them is full.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import contextmanager
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from pypwru.ring.mapping import BUSY, DISCARDED, RingMapping, open_reader
from pypwru.wire.record import RING_HEADER_SIZE, RawRecord, struct_members, struct_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypwru.ring.counters import Counters
    from pypwru.wire.layout import RecordLayout

CHUNK_HEADER = Struct("<QQII")
PART_BYTES = Struct("<IIIIHHBBB9x")
_CHUNK_HEADER_SIZE = struct_size("chunk")
_MAX_KEPT_BYTES = 256 << 20  # bytes of chunks that are kept, at most
_CPU_OFFSET = struct_members("event")["cpu"].offset
# Retries, and s between them: for a CPU that was interrupted while it writes a chunk.
_MAX_TRIES, _RETRY_INTERVAL = 50, 0.002
_U32_MASK = (1 << 32) - 1

ChunkKey = tuple[int, int, int]
"""Address of the sk_buff or frame, ktime in ns, and CPU of an event."""


class PacketCapture(NamedTuple):
    """The packet data of an event. Integers are in host byte order.

    Args:
        data: the captured bytes; its length is the caplen.
        length: length of the packet in bytes, from the first captured byte on.
        vlan_tag: the accelerated VLAN tag: TPID << 16 | TCI, 0 if there is none.
        device_type: ARPHRD_* of its device, 65535 if it has none.
        queue: ``skb->queue_mapping``; for an XDP frame the index of its receive queue.
        layer: 2 if the data begins with an Ethernet header, 3 if with the network header.
        pkt_type: ``skb->pkt_type``: PACKET_* of linux/if_packet.h.
        is_first: whether the event is the packet's first; false in runs that don't detect it.
        lost_before: number of captures lost before this one: those of its CPU since the previous
            one of that CPU, and those lost in this process since the previous one of any CPU.
    """

    data: bytes
    length: int
    vlan_tag: int
    device_type: int
    queue: int
    layer: int
    pkt_type: int
    is_first: bool
    lost_before: int


class PacketDataReader:
    """Reads the ring ``packets``, and keeps packet data until its event is processed.

    Args:
        ring_fd: descriptor of the ring ``packets``.
        size: size of the ring in bytes.
        layout: the layout of event records; they have ``part_bytes``.
        snaplen: bytes that are captured of a packet, at most.
        pause: sleeps for a number of seconds.

    Raises:
        OSError: the ring can't be mapped.
    """

    def __init__(
        self,
        ring_fd: int,
        size: int,
        layout: RecordLayout,
        snaplen: int,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.lost = 0
        """Captures without their data when their event was processed: late, or evicted."""
        self.truncated = 0
        """Captures with fewer bytes than packet and snaplen have: unreadable, or no room."""
        self._ring = RingMapping(ring_fd, size)
        self._part_offset = layout.parts["bytes"].offset
        self._snaplen = snaplen
        self._pause = pause
        self._chunks: OrderedDict[ChunkKey, list[bytes]] = OrderedDict()
        self._kept_bytes = 0  # bytes in these
        self._max_kept_bytes = min(max(4 * size, 16 << 20), _MAX_KEPT_BYTES)
        self._lost_by_cpu: dict[int, int] = {}  # CPU -> the handlers' count at its last capture
        self._lost_since_pop = 0  # since the last capture that was returned

    def read_chunks(self) -> bool:
        """Move all chunks from the ring to memory.

        Returns:
            False if chunks are left, behind one that a CPU still writes.
        """
        ring, unpack = self._ring, CHUNK_HEADER.unpack_from
        position, end = ring.consumer[0], ring.producer[0]
        while position < end:
            start = position & ring.mask
            length = ring.words[start // 4]
            if length & BUSY:
                return False
            if not length & DISCARDED:
                start += RING_HEADER_SIZE
                skb, ktime, cpu, size = unpack(ring.data, start)
                start += _CHUNK_HEADER_SIZE
                self._add_chunk((skb, ktime, cpu), bytes(ring.data[start : start + size]))
            position += RING_HEADER_SIZE + -(-(length & ~DISCARDED) // 8) * 8
            ring.consumer[0] = position
        return True

    def pop(self, record: RawRecord) -> PacketCapture | None:
        """Remove and return the packet data of an event; may wait 0.1 s for a CPU that writes it.

        Args:
            record: the event.

        Returns:
            None if none was captured at this event, or if it was lost, which is counted.
        """
        part = PART_BYTES.unpack_from(record[4], self._part_offset)
        length, caplen, vlan_tag, lost, device_type, queue, layer, pkt_type, is_first = part
        if not layer:
            return None
        data = self._join_chunks(record, caplen)
        if len(data) < caplen:
            self.lost += 1
            self._lost_since_pop += 1
            return None
        self.truncated += caplen < min(length, self._snaplen)
        cpu = int.from_bytes(record[0][_CPU_OFFSET : _CPU_OFFSET + 2], "little")
        lost_before, self._lost_since_pop = self._lost_on_cpu(cpu, lost) + self._lost_since_pop, 0
        return PacketCapture(
            data, length, vlan_tag, device_type, queue, layer, pkt_type, bool(is_first), lost_before
        )

    def summarize(self, counters: Counters) -> dict[str, int]:
        """Account for all captures, for the last line of the log.

        Args:
            counters: the counters of the handlers.

        Returns:
            Key of the log line -> number of captures.
        """
        return {
            "capture_requested": counters.capture_requested,
            "capture_truncated": self.truncated,
            "lost_packets": counters.capture_no_room + self.lost,
        }

    def close(self) -> None:
        """Unmap the ring buffer."""
        self._ring.close()

    def _add_chunk(self, key: ChunkKey, data: bytes) -> None:
        self._chunks.setdefault(key, []).append(data)
        self._kept_bytes += len(data)
        while self._kept_bytes > self._max_kept_bytes:
            _, evicted = self._chunks.popitem(last=False)
            self._kept_bytes -= sum(map(len, evicted))

    def _join_chunks(self, record: RawRecord, caplen: int) -> bytes:
        """Remove and join the chunks of an event.

        Args:
            record: the event.
            caplen: the number of captured bytes.

        Returns:
            ``caplen`` bytes, or fewer if an unfinished chunk of another CPU is in front of them.
        """
        skb, cpu = record[0][:8], record[0][_CPU_OFFSET : _CPU_OFFSET + 2]
        key = int.from_bytes(skb, "little"), record[2], int.from_bytes(cpu, "little")
        for _ in range(_MAX_TRIES):
            if sum(map(len, self._chunks.get(key, ()))) >= caplen or self.read_chunks():
                break
            self._pause(_RETRY_INTERVAL)
        chunks = self._chunks.pop(key, [])
        self._kept_bytes -= sum(map(len, chunks))
        return b"".join(chunks)

    def _lost_on_cpu(self, cpu: int, lost: int) -> int:
        """Return the number of captures that a CPU lost since its previous capture.

        Args:
            cpu: number of the CPU.
            lost: its count of lost captures, modulo 2**32. That of a handler which another
                interrupted may be less than the previous one; it is ignored.
        """
        difference = (lost - self._lost_by_cpu.get(cpu, 0)) & _U32_MASK
        if difference >> 31:
            return 0
        self._lost_by_cpu[cpu] = lost
        return difference


@contextmanager
def open_packet_data(
    ring_fd: int, size: int, layout: RecordLayout, snaplen: int
) -> Iterator[PacketDataReader]:
    """Provide the ``PacketDataReader`` of a run, and unmap it at the end.

    Args:
        ring_fd: descriptor of the ring ``packets``.
        size: size of the ring in bytes.
        layout: the layout of event records.
        snaplen: bytes that are captured of a packet, at most.

    Raises:
        KernelError: the ring can't be mapped.
    """
    with open_reader(lambda: PacketDataReader(ring_fd, size, layout, snaplen), size) as reader:
        yield reader
