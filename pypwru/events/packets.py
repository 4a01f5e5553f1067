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

from pypwru.events.mapped import BUSY, DISCARDED, Mapped, unmapped
from pypwru.events.record import RING_HEADER, Slices, members, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pypwru.config import Config
    from pypwru.events.counters import Counters
    from pypwru.events.wire import Wire

CHUNK = Struct("<QQII")
BYTES = Struct("<IIIIHHBBB9x")
_CHUNK_SIZE = size_of("chunk")
_LARGEST = 256 << 20  # bytes of chunks that are kept, at most
_CPU = members("event")["cpu"].offset
# Retries, and s between them: for a CPU that was interrupted while it writes a chunk.
_TRIES, _PAUSE = 50, 0.002
_U32 = (1 << 32) - 1

Key = tuple[int, int, int]
"""Address of the sk_buff or frame, ktime in ns, and CPU of an event."""


class Captured(NamedTuple):
    """The packet data of an event. Integers are in host byte order.

    Args:
        octets: the captured bytes; its length is the caplen.
        length: length of the packet in bytes, from the first captured byte on.
        tag: the accelerated VLAN tag: TPID << 16 | TCI, 0 if there is none.
        device: ARPHRD_* of its device, 65535 if it has none.
        queue: ``skb->queue_mapping``; for an XDP frame the index of its receive queue.
        layer: 2 if the data begins with an Ethernet header, 3 if with the network header.
        type: ``skb->pkt_type``: PACKET_* of linux/if_packet.h.
        first: whether the event is the packet's first; false in runs that don't detect it.
        dropped: number of captures lost before this one: those of its CPU since the previous one
            of that CPU, and those lost in this process since the previous one of any CPU.
    """

    octets: bytes
    length: int
    tag: int
    device: int
    queue: int
    layer: int
    type: int
    first: bool
    dropped: int


class PacketBytes:
    """Reads the ring ``packets``, and keeps packet data until its event is processed.

    Args:
        ring: descriptor of the ring ``packets``.
        size: size of the ring in bytes.
        wire: the layout of event records; they have ``part_bytes``.
        snaplen: bytes that are captured of a packet, at most.
        pause: sleeps for a number of seconds.

    Raises:
        OSError: the ring can't be mapped.
    """

    def __init__(
        self,
        ring: int,
        size: int,
        wire: Wire,
        snaplen: int,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.lost = 0
        """Captures without their data when their event was processed: late, or evicted."""
        self.cut = 0
        """Captures with fewer bytes than packet and snaplen have: unreadable, or no room."""
        self._ring = Mapped(ring, size)
        self._at = wire.parts["bytes"].offset
        self._snaplen = snaplen
        self._pause = pause
        self._kept: OrderedDict[Key, list[bytes]] = OrderedDict()
        self._size = 0  # bytes in these
        self._room = min(max(4 * size, 16 << 20), _LARGEST)
        self._lost_on: dict[int, int] = {}  # CPU -> the handlers' count at its last capture
        self._lost_here = 0  # since the last capture that was returned

    def collect(self) -> bool:
        """Move all chunks from the ring to memory.

        Returns:
            False if chunks are left, behind one that a CPU still writes.
        """
        ring, unpack = self._ring, CHUNK.unpack_from
        at, end = ring.consumer[0], ring.producer[0]
        while at < end:
            start = at & ring.mask
            length = ring.words[start // 4]
            if length & BUSY:
                return False
            if not length & DISCARDED:
                start += RING_HEADER
                skb, ktime, cpu, size = unpack(ring.data, start)
                start += _CHUNK_SIZE
                self._keep((skb, ktime, cpu), bytes(ring.data[start : start + size]))
            at += RING_HEADER + -(-(length & ~DISCARDED) // 8) * 8
            ring.consumer[0] = at
        return True

    def take(self, record: Slices) -> Captured | None:
        """Remove and return the packet data of an event; may wait 0.1 s for a CPU that writes it.

        Args:
            record: the event.

        Returns:
            None if none was captured at this event, or if it was lost, which is counted.
        """
        part = BYTES.unpack_from(record[4], self._at)
        length, told, tag, lost, device, queue, layer, kind, first = part
        if not layer:
            return None
        octets = self._octets(record, told)
        if len(octets) < told:
            self.lost += 1
            self._lost_here += 1
            return None
        self.cut += told < min(length, self._snaplen)
        cpu = int.from_bytes(record[0][_CPU : _CPU + 2], "little")
        dropped, self._lost_here = self._dropped(cpu, lost) + self._lost_here, 0
        return Captured(octets, length, tag, device, queue, layer, kind, bool(first), dropped)

    def account(self, counted: Counters) -> dict[str, int]:
        """Account for all captures, for the last line of the log.

        Args:
            counted: the counters of the handlers.

        Returns:
            Key of the log line -> number of captures.
        """
        return {
            "packets_wanted": counted.wanted,
            "packets_cut": self.cut,
            "lost_packets": counted.unheard + self.lost,
        }

    def close(self) -> None:
        """Unmap the ring buffer."""
        self._ring.close()

    def _keep(self, key: Key, octets: bytes) -> None:
        self._kept.setdefault(key, []).append(octets)
        self._size += len(octets)
        while self._size > self._room:
            _, thrown = self._kept.popitem(last=False)
            self._size -= sum(map(len, thrown))

    def _octets(self, record: Slices, told: int) -> bytes:
        """Remove and join the chunks of an event.

        Args:
            record: the event.
            told: the number of captured bytes.

        Returns:
            ``told`` bytes, or fewer if an unfinished chunk of another CPU is in front of them.
        """
        skb, cpu = record[0][:8], record[0][_CPU : _CPU + 2]
        key = int.from_bytes(skb, "little"), record[2], int.from_bytes(cpu, "little")
        for _ in range(_TRIES):
            if sum(map(len, self._kept.get(key, ()))) >= told or self.collect():
                break
            self._pause(_PAUSE)
        found = self._kept.pop(key, [])
        self._size -= sum(map(len, found))
        return b"".join(found)

    def _dropped(self, cpu: int, lost: int) -> int:
        """Return the number of captures that a CPU lost since its previous capture.

        Args:
            cpu: number of the CPU.
            lost: its count of lost captures, modulo 2**32. That of a handler which another
                interrupted may be less than the previous one; it is ignored.
        """
        more = (lost - self._lost_on.get(cpu, 0)) & _U32
        if more >> 31:
            return 0
        self._lost_on[cpu] = lost
        return more


@contextmanager
def packets_where_asked(
    config: Config, maps: Mapping[str, int], wire: Wire
) -> Iterator[PacketBytes | None]:
    """Provide the ``PacketBytes`` of a run, and unmap it at the end; None without capture.

    Args:
        config: of the run.
        maps: name -> descriptor.
        wire: the layout of event records.

    Raises:
        KernelError: the ring can't be mapped.
    """
    if not config.captures:
        yield None
        return
    size = config.buffer_size
    with unmapped(
        lambda: PacketBytes(maps["packets"], size, wire, config.pcap_snaplen), size
    ) as packets:
        yield packets
