"""The ring buffer, drained by hand: batches of records, no callback and no system call a record.

The layout is the kernel's (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with
the producer's, and the data mapped twice in a row, so that what wraps is still one piece.
"""

from __future__ import annotations

import mmap
import select
from collections.abc import Iterator
from contextlib import contextmanager

from pypwru.errors import KernelError
from pypwru.events.record import READER_AWAKE, READER_DOZING, READER_STOPPED, Slices, decoder
from pypwru.events.wire import Wire

_PAGE = mmap.PAGESIZE
_BUSY = 1 << 31  # BPF_RINGBUF_BUSY_BIT
BATCH = 8192  # records at most in one read, so that a signal is answered soon
_TICK = 0.01  # s, between looks at a ring that was not empty lately
_TICKS_BEFORE_DOZING = 10
_DOZE = 0.5  # s; a wake-up lost between setting the word and sleeping is made good after this


class Ring:
    """The reading end of a ``BPF_MAP_TYPE_RINGBUF`` whose records are all alike.

    Args:
        ring: descriptor of the ring buffer.
        size: its bytes.
        reader: descriptor of the map in which the reader says whether it must be woken.
        wire: the layout of a record.
    """

    def __init__(self, ring: int, size: int, reader: int, wire: Wire) -> None:
        self._mask = size - 1
        self._size, self._stride = wire.size, wire.stride
        self._decode = decoder(wire.tail)
        self._maps = [
            mmap.mmap(ring, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            mmap.mmap(ring, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE),
            mmap.mmap(reader, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
        ]
        consumer, producer, state = (memoryview(mapped) for mapped in self._maps)
        # Casts make each access one aligned load or store, as the kernel's side expects.
        self._consumer = consumer.cast("Q")
        self._producer = producer[:_PAGE].cast("Q")
        self._data = producer[_PAGE:]
        self._words = self._data.cast("I")
        self._state = state.cast("I")
        self._ticks = _TICKS_BEFORE_DOZING
        self._interrupts = select.epoll()
        self._ring_or_interrupts = select.epoll()
        self._ring_or_interrupts.register(ring, select.EPOLLIN)

    def watch(self, fd: int) -> None:
        """Make ``wait`` end when ``fd`` becomes readable, too."""
        self._interrupts.register(fd, select.EPOLLIN)
        self._ring_or_interrupts.register(fd, select.EPOLLIN)

    def read(self) -> list[Slices]:
        """The next records, at most a batch; empty when there are none."""
        consumer, stride = self._consumer[0], self._stride
        waiting = min((self._producer[0] - consumer) // stride, BATCH)
        if not waiting:
            return []
        start = consumer & self._mask
        lengths = self._words[start // 4 : start // 4 + waiting * (stride // 4) : stride // 4]
        ready = committed(lengths.tolist(), self._size)
        # Copied only now: what was seen committed before the copy is whole in it.
        records = bytes(self._data[start : start + ready * stride])
        self._consumer[0] = consumer + len(records)
        self._ticks = 0
        return self._decode(records)

    def wait(self) -> None:
        """Sleep until there may be records, or a watched descriptor is readable."""
        self._ticks += 1
        if self._ticks <= _TICKS_BEFORE_DOZING:
            self._interrupts.poll(_TICK)  # not the ring: records gather to a batch meanwhile
            return
        self._state[0] = READER_DOZING
        self._ring_or_interrupts.poll(_DOZE)
        self._state[0] = READER_AWAKE

    def stop(self) -> None:
        """Tell the handlers to write no more."""
        self._state[0] = READER_STOPPED

    def close(self) -> None:
        """Unmap everything."""
        self._interrupts.close()
        self._ring_or_interrupts.close()
        for view in (self._consumer, self._producer, self._words, self._data, self._state):
            view.release()
        for mapped in self._maps:
            mapped.close()


def committed(lengths: list[int], size: int) -> int:
    """How many of the records of ``size`` bytes, from the first, their producers have finished."""
    if lengths.count(size) == len(lengths):
        return len(lengths)
    return next(index for index, length in enumerate(lengths) if length & _BUSY)


@contextmanager
def opened(ring: int, size: int, reader: int, wire: Wire) -> Iterator[Ring]:
    """A ``Ring`` that is unmapped on the way out.

    Raises:
        KernelError: no memory to map it.
    """
    try:
        made = Ring(ring, size, reader, wire)
    except OSError as error:
        raise KernelError(
            f"Failed to map a ring buffer of {size} bytes: {error.strerror}; "
            "choose a smaller --buffer-size"
        ) from error
    try:
        yield made
    finally:
        made.close()
