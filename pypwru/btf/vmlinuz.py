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

_MAX_VMLINUX = 1 << 30  # bytes of a vmlinux
_CHUNK_SIZE = 1 << 22
_HEADER = "<HBBIIIII"  # struct btf_header
_BTF_MAGICS = [struct.pack("<HBBI", 0xEB9F, 1, 0, size) for size in (24, 32)]  # 32 since Linux 7.1


def find_btf(image: bytes) -> bytes | None:
    """Return the largest BTF blob in a kernel image, or None if none is found."""
    for content in (image, *_decompress_all(image)):
        found = max(_btf_blobs(content), key=len, default=None)
        if found:
            return found
    return None


def _btf_blobs(content: bytes) -> Iterator[bytes]:
    """Yield candidates: a BTF header whose sections are inside, the second one of strings."""
    for magic in _BTF_MAGICS:
        start = content.find(magic)
        while start >= 0:
            blob = _blob(content, start)
            if blob:
                yield blob
            start = content.find(magic, start + 1)


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


def _decompress_all(image: bytes) -> Iterator[bytes]:
    """Yield what decompresses at any offset that has the magic of a format."""
    for magic, decompress in _FORMATS.items():
        start = image.find(magic)
        while start >= 0:
            content = decompress(image[start:])
            if content:
                yield content
            start = image.find(magic, start + 1)


def _xz(data: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data, _MAX_VMLINUX)
    except (lzma.LZMAError, EOFError):
        return b""


def _gzip(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(data, _MAX_VMLINUX)
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
    chunk = ctypes.create_string_buffer(_CHUNK_SIZE)
    source_buffer = _Buffer(ctypes.addressof(source), len(data), 0)
    found = bytearray()
    try:
        while len(found) < _MAX_VMLINUX:
            output_buffer = _Buffer(ctypes.addressof(chunk), _CHUNK_SIZE, 0)
            remaining = library.ZSTD_decompressStream(
                stream, ctypes.byref(output_buffer), ctypes.byref(source_buffer)
            )
            if library.ZSTD_isError(ctypes.c_size_t(remaining)):
                return b""
            found += chunk.raw[: output_buffer.at]
            if not remaining or (source_buffer.at == len(data) and not output_buffer.at):
                break
    finally:
        library.ZSTD_freeDStream(stream)
    return bytes(found)


_FORMATS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\xfd7zXZ\0": _xz,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x1f\x8b\x08": _gzip,
}
