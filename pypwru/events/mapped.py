"""A ring buffer in our memory: what is the same for every reader of one.

The layout is the kernel's (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with
the producer's, and the data mapped twice in a row, so that what wraps is still one piece.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from pypwru.errors import KernelError
from pypwru.kernel.descriptors import cure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = mmap.PAGESIZE
BUSY = 1 << 31  # BPF_RINGBUF_BUSY_BIT
DISCARDED = 1 << 30  # BPF_RINGBUF_DISCARD_BIT


class Mapped:
    """The reading end of a ``BPF_MAP_TYPE_RINGBUF``.

    Args:
        ring: descriptor of the ring buffer.
        size: its bytes.
    """

    def __init__(self, ring: int, size: int) -> None:
        self.mask = size - 1
        self._maps = [
            mmap.mmap(ring, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            mmap.mmap(ring, PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE),
        ]
        consumer, producer = (memoryview(mapped) for mapped in self._maps)
        # Casts make each access one aligned load or store, as the kernel's side expects.
        self.consumer = consumer.cast("Q")
        self.producer = producer[:PAGE].cast("Q")
        self.data = producer[PAGE:]
        self.words = self.data.cast("I")

    def close(self) -> None:
        """Unmap everything."""
        for view in (self.consumer, self.producer, self.words, self.data):
            view.release()
        for mapped in self._maps:
            mapped.close()


class _Closing(Protocol):
    def close(self) -> None: ...


Reader = TypeVar("Reader", bound=_Closing)


@contextmanager
def unmapped(make: Callable[[], Reader], size: int) -> Iterator[Reader]:
    """What ``make`` maps, until the way out.

    Args:
        size: bytes of its ring buffer.

    Raises:
        KernelError: no memory to map it.
    """
    try:
        made = make()
    except OSError as error:
        raise KernelError(
            f"Failed to map a ring buffer of {size} bytes: {error.strerror}; "
            f"{cure(error, 'choose a smaller --buffer-size')}"
        ) from error
    try:
        yield made
    finally:
        made.close()
