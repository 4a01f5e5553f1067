"""Extraction of BTF from a bootable kernel image: a compressed vmlinux, or arm64's plain Image.

Works as the kernel's scripts/extract-vmlinux: search for the magic of each compression format, and
try to decompress from there. Pure, except that it loads libzstd.
"""

from __future__ import annotations

import ctypes
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

_MOST = 1 << 30  # bytes of a vmlinux
_PART = 1 << 22
_HEADER = "<HBBIIIII"  # struct btf_header
_BEGINNINGS = [struct.pack("<HBBI", 0xEB9F, 1, 0, size) for size in (24, 32)]  # 32 since Linux 7.1


def find_btf(image: bytes) -> bytes | None:
    """Return the largest BTF blob in a kernel image, or None if none is found."""
    for content in (image, *_unpacked(image)):
        found = max(_blobs(content), key=len, default=None)
        if found:
            return found
    return None


def _blobs(content: bytes) -> Iterator[bytes]:
    """Yield candidates: a BTF header whose sections are inside, the second one of strings."""
    for beginning in _BEGINNINGS:
        start = content.find(beginning)
        while start >= 0:
            blob = _blob(content, start)
            if blob:
                yield blob
            start = content.find(beginning, start + 1)


def _blob(content: bytes, start: int) -> bytes:
    header = content[start : start + struct.calcsize(_HEADER)]
    if len(header) < struct.calcsize(_HEADER):
        return b""
    _, _, _, size, types, types_size, strings, strings_size = struct.unpack(_HEADER, header)
    end = size + max(types + types_size, strings + strings_size)
    blob = content[start : start + end]
    text = blob[size + strings : size + strings + strings_size]
    is_whole = len(blob) == end and types_size and types_size % 4 == 0
    return blob if is_whole and text[:1] == text[-1:] == b"\0" else b""


def _unpacked(image: bytes) -> Iterator[bytes]:
    """Yield what decompresses at any offset that has the magic of a format."""
    for magic, unpack in _FORMATS.items():
        start = image.find(magic)
        while start >= 0:
            content = unpack(image[start:])
            if content:
                yield content
            start = image.find(magic, start + 1)


def _xz(data: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data, _MOST)
    except (lzma.LZMAError, EOFError):
        return b""


def _gzip(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(data, _MOST)
    except zlib.error:
        return b""


class _Buffer(ctypes.Structure):
    """``ZSTD_inBuffer`` and ``ZSTD_outBuffer`` of zstd.h."""

    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t))


def _zstd(data: bytes) -> bytes:
    """Decompress by libzstd: the standard library has no zstd before Python 3.14."""
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return b""
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    stream = ctypes.c_void_p(library.ZSTD_createDStream())
    source = ctypes.create_string_buffer(data, len(data))
    part = ctypes.create_string_buffer(_PART)
    taken = _Buffer(ctypes.addressof(source), len(data), 0)
    found = bytearray()
    try:
        while len(found) < _MOST:
            given = _Buffer(ctypes.addressof(part), _PART, 0)
            left = library.ZSTD_decompressStream(stream, ctypes.byref(given), ctypes.byref(taken))
            if library.ZSTD_isError(ctypes.c_size_t(left)):
                return b""
            found += part.raw[: given.at]
            if not left or (taken.at == len(data) and not given.at):
                break
    finally:
        library.ZSTD_freeDStream(stream)
    return bytes(found)


_FORMATS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": _xz,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x1f\x8b\x08": _gzip,
}
