"""Where the kernel keeps a page whose ``struct page`` is known: what the fragments of packets need.

A page frame has its ``struct page`` at ``memmap + frame * sizeof(struct page)`` and its bytes at
``direct + frame * page size`` (CONFIG_SPARSEMEM_VMEMMAP). Both bases are random on each boot, and
many kernels tell neither by a symbol nor in /proc/kcore. So a page of our own is looked for: its
frame is in /proc/self/pagemap, its ``struct page`` in the pipe that it was given to, and its bytes
are where the kernel finds what we wrote into it.
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

# The direct map begins at such an address on x86-64 (kaslr_regions, by PUD_SIZE), and arm64 rounds
# the start of its memory so (ARM64_MEMSTART_ALIGN).
_STEP = 1 << 30
_STEPS = 1 << 14  # downwards from something that is in it: the memory that a machine can have
_FRAME = (1 << 55) - 1  # of a word of /proc/self/pagemap

_libc = ctypes.CDLL(None, use_errno=True)


class Pages(NamedTuple):
    """The bases, as above; both 0 where they are not known.

    Args:
        memmap: address of the ``struct page`` of frame 0.
        direct: address of the bytes of frame 0.
    """

    memmap: int = 0
    direct: int = 0

    def constants(self) -> dict[str, int]:
        """Name of program/constants.py -> value."""
        return {"MEMMAP": self.memmap, "DIRECT_MAP": self.direct}


def find_pages(btf: BTF) -> Pages:
    """Find them out.

    Args:
        btf: of vmlinux.
    """
    try:
        with peeking() as peek:
            return _find(btf, peek)
    except (OSError, BTFError):  # no such program, no such member: nothing is known
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
    """Let the pipe refer to our page, instead of to a copy."""
    vector = struct.pack("=QQ", address, mmap.PAGESIZE)
    given = _libc.vmsplice(pipe, vector, ctypes.c_ulong(1), ctypes.c_uint(0))
    if given != mmap.PAGESIZE:
        raise OSError(ctypes.get_errno(), "vmsplice")


def _frame_of(address: int) -> int:
    """The page frame of our own address; 0 where it isn't told (without CAP_SYS_ADMIN)."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(address // mmap.PAGESIZE * 8)
        word: int = struct.unpack("=Q", file.read(8))[0]
    return word & _FRAME if word >> 63 else 0


def _page_in(btf: BTF, peek: Peek, pipe: int) -> int:
    """The address of the ``struct page`` that the pipe got first."""

    def follow(address: int, struct_name: str, member: str) -> int:
        return peek.u64(address + btf.member(struct_name, member).offset)

    files = follow(peek.task(), "task_struct", "files")
    table = follow(follow(files, "files_struct", "fdt"), "fdtable", "fd")
    file = peek.u64(table + 8 * pipe)
    buffers = follow(follow(file, "file", "private_data"), "pipe_inode_info", "bufs")
    return follow(buffers, "pipe_buffer", "page")


def _candidates(peek: Peek, frame: int, magic: bytes) -> Iterator[int]:
    """Bases of the direct map by which our bytes are found."""
    words = struct.unpack("=4Q", magic[:32])
    base = peek.task() // _STEP * _STEP  # a task is allocated there
    for _ in range(_STEPS):
        address = base + frame * mmap.PAGESIZE
        if peek.u32(address) == words[0] & 0xFFFFFFFF and words == tuple(
            peek.u64(address + 8 * index) for index in range(len(words))
        ):
            yield base
        base -= _STEP
