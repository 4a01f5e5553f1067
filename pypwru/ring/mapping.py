"""Memory mapping of a BPF ring buffer, for all of its readers.

The layout is that of kernel/bpf/ringbuf.c: a page with the consumer's position, a page with the
producer's, and the data mapped twice in a row, so that a record that wraps is contiguous.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from pypwru.errors import KernelError, remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = mmap.PAGESIZE
BUSY = 1 << 31  # BPF_RINGBUF_BUSY_BIT
DISCARDED = 1 << 30  # BPF_RINGBUF_DISCARD_BIT


class RingMapping:
    """The reading end of a ``BPF_MAP_TYPE_RINGBUF``.

    ``consumer[0]`` and ``producer[0]`` are positions in bytes, which only grow; masked by ``mask``
    they are offsets in ``data``, and a quarter of that in ``words``.

    Args:
        ring_fd: descriptor of the ring buffer.
        size: size of the ring buffer in bytes, a power of two.

    Raises:
        OSError: mmap() failed.
    """

    def __init__(self, ring_fd: int, size: int) -> None:
        self.mask = size - 1
        self._maps = [
            mmap.mmap(ring_fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            mmap.mmap(ring_fd, PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE),
        ]
        consumer, producer = (memoryview(mapped) for mapped in self._maps)
        # Casts make each access one aligned load or store, as the kernel's side expects.
        self.consumer = consumer.cast("Q")
        self.producer = producer[:PAGE].cast("Q")
        self.data = producer[PAGE:]
        self.words = self.data.cast("I")

    def close(self) -> None:
        """Unmap the ring buffer. No view of it may be in use any more."""
        for view in (self.consumer, self.producer, self.words, self.data):
            view.release()
        for mapped in self._maps:
            mapped.close()


class _Closable(Protocol):
    def close(self) -> None: ...


Reader = TypeVar("Reader", bound=_Closable)


@contextmanager
def open_reader(make: Callable[[], Reader], size: int) -> Iterator[Reader]:
    """Provide the reader that ``make`` creates, and close it at the end.

    Args:
        make: creates the reader, which maps a ring buffer.
        size: size of the ring buffer in bytes, for the error message.

    Raises:
        KernelError: the ring buffer can't be mapped.
    """
    try:
        reader = make()
    except OSError as error:
        raise KernelError(
            f"Failed to map a ring buffer of {size} bytes: {error.strerror}",
            remedy(error, "choose a smaller --buffer-size"),
        ) from error
    try:
        yield reader
    finally:
        reader.close()
