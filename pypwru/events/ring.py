"""Read the ring of events in batches: no callback, and no system call per record."""

from __future__ import annotations

import mmap
import select
from typing import TYPE_CHECKING

from pypwru.events.mapped import BUSY, PAGE, Mapped, unmapped
from pypwru.events.record import READER_AWAKE, READER_DOZING, READER_STOPPED, Slices, decoder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pypwru.events.wire import Wire

BATCH = 8192  # records per read at most, so that signals are handled soon
_TICK = 0.01  # s, between polls of a ring that was not empty lately
_TICKS_BEFORE_DOZING = 10
_DOZE = 0.5  # s; bounds the delay by a wake-up lost between setting the state and sleeping


class Ring:
    """Reads a ``BPF_MAP_TYPE_RINGBUF`` with records of one size.

    Handlers write nothing before ``start``, and nothing after ``stop``.

    Args:
        ring: descriptor of the ring buffer.
        size: size of the ring buffer in bytes.
        reader: descriptor of the map ``reader``, with the reader's state: READER_*.
        wire: the layout of a record.

    Raises:
        OSError: a map can't be mapped.
    """

    def __init__(self, ring: int, size: int, reader: int, wire: Wire) -> None:
        self._ring = Mapped(ring, size)
        self._size, self._stride = wire.size, wire.stride
        self._decode = decoder(wire.tail)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self._mapped_state = mmap.mmap(reader, PAGE, mmap.MAP_SHARED, protection)
        self._state = memoryview(self._mapped_state).cast("I")
        self._state[0] = READER_STOPPED
        self._ticks = _TICKS_BEFORE_DOZING
        self._interrupts = select.epoll()
        self._ring_or_interrupts = select.epoll()
        self._ring_or_interrupts.register(ring, select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """Make ``wait`` return also when ``fd`` is readable. The caller keeps it open."""
        self._interrupts.register(fd, select.EPOLLIN)
        self._ring_or_interrupts.register(fd, select.EPOLLIN)

    def read(self) -> list[Slices]:
        """Return the next records, at most ``BATCH``; none if the ring is empty."""
        ring, stride = self._ring, self._stride
        consumer = ring.consumer[0]
        waiting = min((ring.producer[0] - consumer) // stride, BATCH)
        if not waiting:
            return []
        start = consumer & ring.mask
        # No view is bound to a name: if a signal handler raised here, it would stay alive in the
        # traceback, and the mmap could not be closed.
        ready = committed(
            ring.words[start // 4 : start // 4 + waiting * (stride // 4) : stride // 4].tolist(),
            self._size,
        )
        # Copy after the check: records that were committed before are complete in the copy.
        records = bytes(ring.data[start : start + ready * stride])
        ring.consumer[0] = consumer + len(records)
        self._ticks = 0
        return self._decode(records)

    def wait(self) -> None:
        """Sleep until there may be records, or a watched descriptor is readable; 0.5 s at most."""
        self._ticks += 1
        if self._ticks <= _TICKS_BEFORE_DOZING:
            self._interrupts.poll(_TICK)  # not the ring, so that records form a batch
            return
        self._state[0] = READER_DOZING
        self._ring_or_interrupts.poll(_DOZE)
        self._state[0] = READER_AWAKE

    def start(self) -> None:
        """Make the handlers write records."""
        self._state[0] = READER_AWAKE

    def stop(self) -> None:
        """Make the handlers stop writing records."""
        self._state[0] = READER_STOPPED

    def close(self) -> None:
        """Unmap the ring buffer and the reader's state."""
        self._interrupts.close()
        self._ring_or_interrupts.close()
        self._state.release()
        self._mapped_state.close()
        self._ring.close()


def committed(lengths: list[int], size: int) -> int:
    """Return how many records, from the first on, are committed by their producers.

    Args:
        lengths: the length words of the headers, with the flags of the kernel.
        size: bytes of each record, which its length is once it is committed.
    """
    if lengths.count(size) == len(lengths):
        return len(lengths)
    return next(index for index, length in enumerate(lengths) if length & BUSY)


def opened(ring: int, size: int, reader: int, wire: Wire) -> AbstractContextManager[Ring]:
    """Provide a ``Ring``, and unmap it at the end.

    Args:
        ring: descriptor of the ring buffer.
        size: size of the ring buffer in bytes.
        reader: descriptor of the map ``reader``.
        wire: the layout of a record.

    Raises:
        KernelError: the ring buffer can't be mapped.
    """
    return unmapped(lambda: Ring(ring, size, reader, wire), size)
