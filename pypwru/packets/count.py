"""Count distinct packets by the packet ids of their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.packets.tracker import is_free_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pypwru.wire.layout import RecordLayout
    from pypwru.wire.record import RawRecord

_MAX_RECENT = 1 << 16
_SEQUENCE_BITS = 39  # of a packet id: next_sequence() of bpf/skb/new_packet.h
_MAX_SEQUENCE = (1 << _SEQUENCE_BITS) - 1
_BLOCK_SIZE = 1 << 12  # numbers in a block
_MAX_BLOCKS = 1 << 10


class _SequenceSet:
    """Set of mostly consecutive numbers: a bitmap of the last four million. Contains all older."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._oldest_index = 0  # index of the oldest block that may be kept

    def add(self, number: int) -> bool:
        """Add a number; return whether it is new."""
        index, offset = divmod(number, _BLOCK_SIZE)
        if index < self._oldest_index:
            return False
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = bytearray(_BLOCK_SIZE // 8)
            if len(self._blocks) > _MAX_BLOCKS:
                oldest = min(self._blocks)
                del self._blocks[oldest]
                self._oldest_index = oldest + 1
        bit = 1 << (offset & 7)
        is_new = not block[offset >> 3] & bit
        block[offset >> 3] |= bit
        return is_new


class PacketCounter:
    """Number of distinct packets. Clones count as their original; a reused address as another.

    Args:
        layout: the layout of records; they have a packet id.
    """

    def __init__(self, layout: RecordLayout) -> None:
        self.total = 0
        self._id_slice = layout.parts["packet_id"].as_slice
        self._recent: set[bytes] = set()
        self._sequences: dict[int, _SequenceSet] = {}  # by CPU and origin of the number

    def add(self, batch: Sequence[RawRecord]) -> None:
        """Count the packets of a batch of records; free records are ignored."""
        recent, id_slice = self._recent, self._id_slice
        for record in batch:
            packet_id = record[4][id_slice]
            if packet_id in recent or is_free_record(record):
                continue
            recent.add(packet_id)
            self.add_id(packet_id)
        if len(recent) > _MAX_RECENT:
            recent.clear()

    def add_id(self, packet_id: bytes) -> None:
        """Count a packet, unless it is counted already.

        Args:
            packet_id: as in records.
        """
        value = int.from_bytes(packet_id, "little")
        sequences = self._sequences.get(value >> _SEQUENCE_BITS)
        if sequences is None:
            sequences = self._sequences[value >> _SEQUENCE_BITS] = _SequenceSet()
        self.total += sequences.add(value & _MAX_SEQUENCE)


def make_packet_counter(layout: RecordLayout) -> PacketCounter | None:
    """Return the counter of a run's packets, or None if its records have no packet ids.

    Without ids packets can't be counted: addresses are reused, and the function that frees an
    sk_buff need not be traced.

    Args:
        layout: the layout of records.
    """
    return PacketCounter(layout) if "packet_id" in layout.parts else None
