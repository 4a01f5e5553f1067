"""Read the ring of events in batches: no callback, and no system call per record."""

from __future__ import annotations

import mmap
import select
from typing import TYPE_CHECKING

from pypwru.ring.mapping import BUSY, PAGE, RingMapping, open_reader
from pypwru.wire.record import READER_AWAKE, READER_DOZING, READER_STOPPED, RawRecord, make_decoder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pypwru.wire.layout import RecordLayout

MAX_BATCH = 8192  # records per read at most, so that signals are handled soon
_POLL_INTERVAL = 0.01  # s, between polls of a ring that was not empty lately
_POLLS_BEFORE_DOZING = 10
_DOZE_TIMEOUT = 0.5  # s; bounds the delay by a wake-up lost between setting the state and sleeping


class RingReader:
    """Reads a ``BPF_MAP_TYPE_RINGBUF`` with records of one size.

    Handlers write nothing before ``start``, and nothing after ``stop``.

    Args:
        ring_fd: descriptor of the ring buffer.
        size: size of the ring buffer in bytes.
        state_fd: descriptor of the map ``state_fd``, with the reader's state: READER_*.
        layout: the layout of a record.

    Raises:
        OSError: a map can't be mapped.
    """

    def __init__(self, ring_fd: int, size: int, state_fd: int, layout: RecordLayout) -> None:
        self._ring = RingMapping(ring_fd, size)
        self._size, self._stride = layout.size, layout.stride
        self._decode = make_decoder(layout.tail_size)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self._mapped_state = mmap.mmap(state_fd, PAGE, mmap.MAP_SHARED, protection)
        self._state = memoryview(self._mapped_state).cast("I")
        self._state[0] = READER_STOPPED
        self._idle_polls = _POLLS_BEFORE_DOZING
        self._stop_epoll = select.epoll()
        self._ring_epoll = select.epoll()
        self._ring_epoll.register(ring_fd, select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """Make ``wait`` return also when ``fd`` is readable. The caller keeps it open."""
        self._stop_epoll.register(fd, select.EPOLLIN)
        self._ring_epoll.register(fd, select.EPOLLIN)

    def read(self) -> list[RawRecord]:
        """Return the next records, at most ``MAX_BATCH``; none if the ring is empty."""
        ring, stride = self._ring, self._stride
        consumer = ring.consumer[0]
        available = min((ring.producer[0] - consumer) // stride, MAX_BATCH)
        if not available:
            return []
        start = consumer & ring.mask
        # No view is bound to a name: if a signal handler raised here, it would stay alive in the
        # traceback, and the mmap could not be closed.
        committed = count_committed(
            ring.words[start // 4 : start // 4 + available * (stride // 4) : stride // 4].tolist(),
            self._size,
        )
        # Copy after the check: records that were committed before are complete in the copy.
        records = bytes(ring.data[start : start + committed * stride])
        ring.consumer[0] = consumer + len(records)
        self._idle_polls = 0
        return self._decode(records)

    def wait(self) -> None:
        """Sleep until there may be records, or a watched descriptor is readable; 0.5 s at most."""
        self._idle_polls += 1
        if self._idle_polls <= _POLLS_BEFORE_DOZING:
            self._stop_epoll.poll(_POLL_INTERVAL)  # not the ring, so that records form a batch
            return
        self._state[0] = READER_DOZING
        self._ring_epoll.poll(_DOZE_TIMEOUT)
        self._state[0] = READER_AWAKE

    def start(self) -> None:
        """Make the handlers write records."""
        self._state[0] = READER_AWAKE

    def stop(self) -> None:
        """Make the handlers stop writing records."""
        self._state[0] = READER_STOPPED

    def close(self) -> None:
        """Unmap the ring buffer and the reader's state."""
        self._stop_epoll.close()
        self._ring_epoll.close()
        self._state.release()
        self._mapped_state.close()
        self._ring.close()


def count_committed(lengths: list[int], size: int) -> int:
    """Return how many records, from the first on, are committed by their producers.

    Args:
        lengths: the length words of the headers, with the flags of the kernel.
        size: bytes of each record, which its length is once it is committed.
    """
    if lengths.count(size) == len(lengths):
        return len(lengths)
    return next(index for index, length in enumerate(lengths) if length & BUSY)


def open_ring(
    ring_fd: int, size: int, state_fd: int, layout: RecordLayout
) -> AbstractContextManager[RingReader]:
    """Provide a ``RingReader``, and unmap it at the end.

    Args:
        ring_fd: descriptor of the ring buffer.
        size: size of the ring buffer in bytes.
        state_fd: descriptor of the map ``state_fd``.
        layout: the layout of a record.

    Raises:
        KernelError: the ring buffer can't be mapped.
    """
    return open_reader(lambda: RingReader(ring_fd, size, state_fd, layout), size)
