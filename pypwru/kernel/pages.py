"""Base addresses of vmemmap and of the direct map, to read the fragments of packets.

A fragment refers to a ``struct page``. Page frame ``n`` has its ``struct page`` at ``memmap + n *
sizeof(struct page)`` and its bytes at ``direct + n * page size`` (CONFIG_SPARSEMEM_VMEMMAP). Both
bases are randomized at each boot, and many kernels export neither as a symbol nor in /proc/kcore.
So they are computed from a page of this process: /proc/self/pagemap has its frame number, the
buffer of a pipe that it is spliced into points to its ``struct page``, and its bytes are found by
searching the direct map for a random pattern that was written to it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import secrets
import struct
from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.types import Kind
from pypwru.errors import BTFError
from pypwru.kernel.peek import Peek, peeking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.btf.query import BTF

# Alignment of the direct map's base, in bytes: x86-64 randomizes it by PUD_SIZE (kaslr_regions),
# arm64 rounds the start of memory down (ARM64_MEMSTART_ALIGN).
_STEP = 1 << 30
_STEPS = 1 << 14  # search so many steps down from a task_struct: 16 TiB of memory
_FRAME = (1 << 55) - 1  # mask of the page frame number in a word of /proc/self/pagemap

_libc = ctypes.CDLL(None, use_errno=True)


class Pages(NamedTuple):
    """The base addresses (u64); both 0 if unknown, then fragments are not read.

    Args:
        memmap: address of the ``struct page`` of frame 0 (vmemmap).
        direct: address of the bytes of frame 0 (page_offset_base of x86-64).
    """

    memmap: int = 0
    direct: int = 0

    def constants(self) -> dict[str, int]:
        """Return name in ``program.constants.CONSTANTS`` -> value."""
        return {"MEMMAP": self.memmap, "DIRECT_MAP": self.direct}


def find_pages(btf: BTF) -> Pages:
    """Compute the bases of the running kernel; zeros if that fails.

    It needs CAP_SYS_ADMIN (pagemap) and Linux 5.10 (``peeking``).

    Args:
        btf: of vmlinux.
    """
    try:
        with peeking() as peek:
            return _find(btf, peek)
    except (OSError, BTFError):  # the kernel can't run the program, or lacks a struct member
        return Pages()


def _find(btf: BTF, peek: Peek) -> Pages:
    magic = secrets.token_bytes(mmap.PAGESIZE)
    reading, writing = os.pipe()
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as own:
            own[:] = magic
            address = ctypes.addressof(held := ctypes.c_char.from_buffer(own))
            try:
                _give(writing, address)
                frame = _frame_of(address)
                if not frame:
                    return Pages()
                page = _page_in(btf, peek, writing)
                direct = next(_candidates(peek, frame, magic), 0)
            finally:
                del held
    finally:
        os.close(reading)
        os.close(writing)
    size = btf.size(btf.find("page", Kind.STRUCT)[0])
    return Pages(page - frame * size, direct) if page and direct else Pages()


def _give(pipe: int, address: int) -> None:
    """Splice the page at ``address`` into a pipe, which then refers to it instead of a copy."""
    vector = struct.pack("=QQ", address, mmap.PAGESIZE)
    given = _libc.vmsplice(pipe, vector, ctypes.c_ulong(1), ctypes.c_uint(0))
    if given != mmap.PAGESIZE:
        raise OSError(ctypes.get_errno(), "vmsplice")


def _frame_of(address: int) -> int:
    """Return the page frame number of our ``address``; 0 if hidden (without CAP_SYS_ADMIN)."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(address // mmap.PAGESIZE * 8)
        word: int = struct.unpack("=Q", file.read(8))[0]
    return word & _FRAME if word >> 63 else 0


def _page_in(btf: BTF, peek: Peek, pipe: int) -> int:
    """Return the address of the ``struct page`` in the first buffer of our pipe."""

    def follow(address: int, struct_name: str, member: str) -> int:
        return peek.u64(address + btf.member(struct_name, member).offset)

    files = follow(peek.task(), "task_struct", "files")
    table = follow(follow(files, "files_struct", "fdt"), "fdtable", "fd")
    file = peek.u64(table + 8 * pipe)
    buffers = follow(follow(file, "file", "private_data"), "pipe_inode_info", "bufs")
    return follow(buffers, "pipe_buffer", "page")


def _candidates(peek: Peek, frame: int, magic: bytes) -> Iterator[int]:
    """Yield the bases of the direct map at which the page ``frame`` begins with ``magic``."""
    words = struct.unpack("=4Q", magic[:32])
    base = peek.task() // _STEP * _STEP  # a task_struct is slab memory: in the direct map
    for _ in range(_STEPS):
        address = base + frame * mmap.PAGESIZE
        if peek.u32(address) == words[0] & 0xFFFFFFFF and words == tuple(
            peek.u64(address + 8 * index) for index in range(len(words))
        ):
            yield base
        base -= _STEP
