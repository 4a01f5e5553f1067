"""Addresses of pages: the content of a page of this process is read there."""

from __future__ import annotations

import ctypes
import mmap
import secrets
import struct

import pytest

from pypwru.btf.load import load_vmlinux
from pypwru.cache import Cache
from pypwru.kernel.kernel_read import open_kernel_reader
from pypwru.program.page_bases import PageBases, find_page_bases
from tests.native.tracing import need_tracing

pytestmark = pytest.mark.native


def test_page_of_process_is_found() -> None:
    need_tracing()
    found = find_page_bases(load_vmlinux(None, Cache()))
    assert found.vmemmap and found.direct_map
    magic = secrets.token_bytes(mmap.PAGESIZE)
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as own, open_kernel_reader() as peek:
        own[:] = magic
        first_byte = ctypes.c_char.from_buffer(own)
        address = ctypes.addressof(first_byte)
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            file.seek(address // mmap.PAGESIZE * 8)
            frame = struct.unpack("=Q", file.read(8))[0] & (1 << 55) - 1
        page_address = found.direct_map + frame * mmap.PAGESIZE
        words = [peek.u64(page_address + at) for at in range(0, mmap.PAGESIZE, 8)]
        del first_byte
    assert struct.pack(f"={len(words)}Q", *words) == magic


def test_page_bases_are_constant() -> None:
    need_tracing()
    btf = load_vmlinux(None, Cache())
    assert find_page_bases(btf) == find_page_bases(btf) != PageBases()


def test_unreadable_address_is_zero() -> None:
    need_tracing()
    with open_kernel_reader() as peek:
        assert peek.u64(0x10) == 0
        assert peek.u64(peek.current_task()) == peek.u64(peek.current_task())
