"""The ring of events, drained by hand: batches of records, no callback, no system call a record."""

from __future__ import annotations

import mmap
import select
from typing import TYPE_CHECKING

from pypwru.events.mapped import BUSY, PAGE, Mapped, unmapped
from pypwru.events.record import READER_AWAKE, READER_DOZING, READER_STOPPED, Slices, decoder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pypwru.events.wire import Wire

BATCH = 8192  # records at most in one read, so that a signal is answered soon
_TICK = 0.01  # s, between looks at a ring that was not empty lately
_TICKS_BEFORE_DOZING = 10
_DOZE = 0.5  # s; a wake-up lost between setting the word and sleeping is made good after this


class Ring:
    """The reading end of a ``BPF_MAP_TYPE_RINGBUF`` whose records are all alike.

    Handlers write nothing before ``start``, and nothing after ``stop``.

    Args:
        ring: descriptor of the ring buffer.
        size: its bytes.
        reader: descriptor of the map in which the reader says whether it must be woken.
        wire: the layout of a record.
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
        """Make ``wait`` end when ``fd`` becomes readable, too."""
        self._interrupts.register(fd, select.EPOLLIN)
        self._ring_or_interrupts.register(fd, select.EPOLLIN)

    def read(self) -> list[Slices]:
        """The next records, at most a batch; empty when there are none."""
        ring, stride = self._ring, self._stride
        consumer = ring.consumer[0]
        waiting = min((ring.producer[0] - consumer) // stride, BATCH)
        if not waiting:
            return []
        start = consumer & ring.mask
        # No view has a name: were a signal to end this, it would keep the mmap from being closed.
        ready = committed(
            ring.words[start // 4 : start // 4 + waiting * (stride // 4) : stride // 4].tolist(),
            self._size,
        )
        # Copied only now: what was seen committed before the copy is whole in it.
        records = bytes(ring.data[start : start + ready * stride])
        ring.consumer[0] = consumer + len(records)
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

    def start(self) -> None:
        """Tell the handlers to write."""
        self._state[0] = READER_AWAKE

    def stop(self) -> None:
        """Tell the handlers to write no more."""
        self._state[0] = READER_STOPPED

    def close(self) -> None:
        """Unmap everything."""
        self._interrupts.close()
        self._ring_or_interrupts.close()
        self._state.release()
        self._mapped_state.close()
        self._ring.close()


def committed(lengths: list[int], size: int) -> int:
    """How many of the records of ``size`` bytes, from the first, their producers have finished."""
    if lengths.count(size) == len(lengths):
        return len(lengths)
    return next(index for index, length in enumerate(lengths) if length & BUSY)


def opened(ring: int, size: int, reader: int, wire: Wire) -> AbstractContextManager[Ring]:
    """A ``Ring`` that is unmapped on the way out; arguments and errors as of these."""
    return unmapped(lambda: Ring(ring, size, reader, wire), size)
