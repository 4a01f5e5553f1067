"""The bytes of packets, between their ring and who wants them.

Handlers write the bytes of a packet in chunks to a ring of their own, all of them before its record
is to be had. So they are collected before records are shown, and kept until theirs is; what nobody
asks for is thrown away when it is the oldest and room is needed.
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
_LARGEST = 256 << 20  # bytes kept, whatever the ring's size is
_CPU = members("event")["cpu"].offset
_TRIES, _PAUSE = 50, 0.002  # s: as long as a CPU may be away that has begun to write a chunk
_U32 = (1 << 32) - 1

Key = tuple[int, int, int]
"""Address, time and CPU of an event."""


class Captured(NamedTuple):
    """What was told of a packet.

    Args:
        octets: its bytes, as far as they could be had.
        length: how many there are of it, from its first byte that is told on.
        tag: that is beside it: TPID << 16 | TCI, 0 for none.
        device: ARPHRD_* of its device, 65535 without one.
        queue: skb->queue_mapping.
        layer: 2 from an Ethernet header on, 3 from the network header on.
        type: PACKET_* of linux/if_packet.h.
        first: it was not seen before; only where that is asked for.
        dropped: packets that were lost on that CPU since the one of it that was taken before, and
            here.
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
    """Bytes that are waiting for their records.

    Args:
        ring: descriptor of the ring ``packets``.
        size: its bytes.
        wire: the layout of records.
        snaplen: bytes of a packet that were asked for at most.
        pause: waits for so many seconds.
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
        """Packets whose record came and whose bytes did not, or were thrown away before."""
        self.cut = 0
        """Packets that were taken, and of which less could be told than was asked for."""
        self._ring = Mapped(ring, size)
        self._at = wire.parts["bytes"].offset
        self._snaplen = snaplen
        self._pause = pause
        self._kept: OrderedDict[Key, list[bytes]] = OrderedDict()
        self._size = 0  # of these
        self._room = min(max(4 * size, 16 << 20), _LARGEST)
        self._lost_on: dict[int, int] = {}
        self._lost_here = 0  # since one was taken

    def collect(self) -> bool:
        """Take what the ring has; false if there is more, behind what a CPU still writes."""
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
        """What is told of the packet of this record, once.

        Returns:
            None if nothing is, or if it was lost, which is counted.
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
        """Where the bytes of every packet went, for the last line of the log.

        Args:
            counted: by the handlers: what they wanted to tell, and had no room for.
        """
        return {
            "packets_wanted": counted.wanted,
            "packets_cut": self.cut,
            "lost_packets": counted.unheard + self.lost,
        }

    def close(self) -> None:
        """Unmap the ring."""
        self._ring.close()

    def _keep(self, key: Key, octets: bytes) -> None:
        self._kept.setdefault(key, []).append(octets)
        self._size += len(octets)
        while self._size > self._room:
            _, thrown = self._kept.popitem(last=False)
            self._size -= sum(map(len, thrown))

    def _octets(self, record: Slices, told: int) -> bytes:
        """All that was told, or less: an earlier chunk of another CPU's may hold it up."""
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
        """Since the last one; of a handler that another interrupted there may be less."""
        more = (lost - self._lost_on.get(cpu, 0)) & _U32
        if more >> 31:
            return 0
        self._lost_on[cpu] = lost
        return more


@contextmanager
def packets_where_asked(
    config: Config, maps: Mapping[str, int], wire: Wire
) -> Iterator[PacketBytes | None]:
    """The ``PacketBytes`` of a run, unmapped on the way out; None where nobody wants any.

    Args:
        maps: name -> descriptor.

    Raises:
        KernelError: no memory to map the ring.
    """
    if not config.captures:
        yield None
        return
    size = config.buffer_size
    with unmapped(
        lambda: PacketBytes(maps["packets"], size, wire, config.pcap_snaplen), size
    ) as packets:
        yield packets
