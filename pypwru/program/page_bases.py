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

from pypwru.btf.members import find_member
from pypwru.btf.types import Kind
from pypwru.errors import BTFError
from pypwru.kernel.kernel_read import KernelReader, open_kernel_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pypwru.btf.query import BTF

# Alignment of the direct map's base, in bytes: x86-64 randomizes it by PUD_SIZE (kaslr_regions),
# arm64 rounds the start of memory down (ARM64_MEMSTART_ALIGN).
_BASE_ALIGNMENT = 1 << 30
_MAX_STEPS = 1 << 14  # search so many steps down from a task_struct: 16 TiB of memory
_PFN_MASK = (1 << 55) - 1  # mask of the page frame number in a word of /proc/self/pagemap

_libc = ctypes.CDLL(None, use_errno=True)


class PageBases(NamedTuple):
    """The base addresses (u64); both 0 if unknown, then fragments are not read.

    Args:
        vmemmap: address of the ``struct page`` of frame 0 (vmemmap).
        direct_map: address of the bytes of frame 0 (page_offset_base of x86-64).
    """

    vmemmap: int = 0
    direct_map: int = 0

    def constants(self) -> dict[str, int]:
        """Return name in ``load_time.CONSTANTS`` -> value."""
        return {"MEMMAP": self.vmemmap, "DIRECT_MAP": self.direct_map}


def find_page_bases(btf: BTF) -> PageBases:
    """Compute the bases of the running kernel; zeros if that fails.

    It needs CAP_SYS_ADMIN (pagemap) and Linux 5.10 (``open_kernel_reader``).

    Args:
        btf: of vmlinux.
    """
    try:
        with open_kernel_reader() as reader:
            return _find(btf, reader)
    except (OSError, BTFError):  # the kernel can't run the program, or lacks a struct member
        return PageBases()


def _find(btf: BTF, reader: KernelReader) -> PageBases:
    pattern = secrets.token_bytes(mmap.PAGESIZE)
    reading, writing = os.pipe()
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as mapping:
            mapping[:] = pattern
            address = ctypes.addressof(pin := ctypes.c_char.from_buffer(mapping))
            try:
                _vmsplice_page(writing, address)
                frame = _page_frame(address)
                if not frame:
                    return PageBases()
                page = _pipe_page(btf, reader, writing)
                direct_map = next(_direct_map_bases(reader, frame, pattern), 0)
            finally:
                del pin
    finally:
        os.close(reading)
        os.close(writing)
    size = btf.size(btf.find("page", Kind.STRUCT)[0])
    return PageBases(page - frame * size, direct_map) if page and direct_map else PageBases()


def _vmsplice_page(pipe: int, address: int) -> None:
    """Splice the page at ``address`` into a pipe, which then refers to it instead of a copy."""
    vector = struct.pack("=QQ", address, mmap.PAGESIZE)
    spliced = _libc.vmsplice(pipe, vector, ctypes.c_ulong(1), ctypes.c_uint(0))
    if spliced != mmap.PAGESIZE:
        raise OSError(ctypes.get_errno(), "vmsplice")


def _page_frame(address: int) -> int:
    """Return the page frame number of our ``address``; 0 if hidden (without CAP_SYS_ADMIN)."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(address // mmap.PAGESIZE * 8)
        word: int = struct.unpack("=Q", file.read(8))[0]
    return word & _PFN_MASK if word >> 63 else 0


def _pipe_page(btf: BTF, reader: KernelReader, pipe: int) -> int:
    """Return the address of the ``struct page`` in the first buffer of our pipe."""

    def read_member(address: int, struct_name: str, member: str) -> int:
        return reader.u64(address + find_member(btf, struct_name, member).offset)

    files = read_member(reader.current_task(), "task_struct", "files")
    table = read_member(read_member(files, "files_struct", "fdt"), "fdtable", "fd")
    file = reader.u64(table + 8 * pipe)
    buffers = read_member(read_member(file, "file", "private_data"), "pipe_inode_info", "bufs")
    return read_member(buffers, "pipe_buffer", "page")


def _direct_map_bases(reader: KernelReader, frame: int, pattern: bytes) -> Iterator[int]:
    """Yield the bases of the direct map at which the page ``frame`` begins with ``pattern``."""
    words = struct.unpack("=4Q", pattern[:32])
    base = (
        reader.current_task() // _BASE_ALIGNMENT * _BASE_ALIGNMENT
    )  # a task_struct is slab memory: in the direct map
    for _ in range(_MAX_STEPS):
        address = base + frame * mmap.PAGESIZE
        if reader.u32(address) == words[0] & 0xFFFFFFFF and words == tuple(
            reader.u64(address + 8 * index) for index in range(len(words))
        ):
            yield base
        base -= _BASE_ALIGNMENT
