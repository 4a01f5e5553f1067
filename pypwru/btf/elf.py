"""Reader of one ELF section, by name: enough to find ``.BTF`` in a vmlinux or a module. Pure.

Layouts are those of the System V ABI, chapter 4: 32 and 64 bits, both byte orders.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

from pypwru.errors import BTFError

MAGIC = b"\x7fELF"
SHF_COMPRESSED = 0x800
SHN_XINDEX = 0xFFFF
_ORDERS = {1: "<", 2: ">"}  # e_ident[EI_DATA]
# By e_ident[EI_CLASS]: offset and format of e_shoff; offset of e_shentsize, e_shnum and
# e_shstrndx; format of a section header, of which name, flags, offset, size and link are read.
_CLASSES = {1: (0x20, "I", 0x2E, "10I"), 2: (0x28, "Q", 0x3A, "2I4Q2I2Q")}


class BytesLike(Protocol):
    """Input of the reader: bytes or an mmap."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class _Section(NamedTuple):
    name: int
    flags: int
    offset: int
    size: int
    link: int


def find_section(data: BytesLike, name: str) -> bytes | None:
    """Return the content of section ``name``, or None if the file has no such section.

    Args:
        data: a whole ELF file, or an mmap of one.
        name: as in the section header string table, e.g. ``.BTF``.

    Raises:
        BTFError: not ELF, malformed, or the section is compressed (SHF_COMPRESSED).
    """
    try:
        return _find(data, name.encode())
    except (struct.error, IndexError, KeyError) as problem:
        raise BTFError(f"ELF file is malformed ({problem}): its sections can't be read") from None


def _find(data: BytesLike, name: bytes) -> bytes | None:
    if data[:4] != MAGIC:
        raise BTFError("not an ELF file: it begins with " + (data[:4].hex(" ") or "nothing"))
    headers, names_index = _section_headers(data)
    if not headers:
        return None
    names = _content(data, headers[names_index])
    for header in headers:
        end = names.find(b"\0", header.name)
        if names[header.name : end] == name:
            if header.flags & SHF_COMPRESSED:
                raise BTFError(f"ELF section {name.decode()} is compressed: objcopy can undo that")
            return _content(data, header)
    return None


def _section_headers(data: BytesLike) -> tuple[list[_Section], int]:
    ident = data[4:6]
    byte_order = _ORDERS[ident[1]]
    table_at, table_format, counts_at, header_format = _CLASSES[ident[0]]
    (table,) = _unpack(byte_order + table_format, data, table_at)
    size, count, names_index = _unpack(byte_order + "3H", data, counts_at)
    if not table:
        return [], 0
    first = _header(byte_order + header_format, data, table)
    # From 0xff00 sections on, e_shnum and e_shstrndx don't fit: sh_size and sh_link of section 0.
    count = count or first.size
    names_index = first.link if names_index == SHN_XINDEX else names_index
    if table + count * size > len(data):
        raise IndexError(f"{count} sections at {table}")
    headers = [
        _header(byte_order + header_format, data, table + index * size) for index in range(count)
    ]
    return headers, names_index


def _header(header_format: str, data: BytesLike, at: int) -> _Section:
    name, _, flags, _, offset, size, link, *_ = _unpack(header_format, data, at)
    return _Section(name, flags, offset, size, link)


def _unpack(layout: str, data: BytesLike, at: int) -> tuple[int, ...]:
    return struct.unpack(layout, data[at : at + struct.calcsize(layout)])


def _content(data: BytesLike, header: _Section) -> bytes:
    if header.offset + header.size > len(data):
        raise IndexError(f"section at {header.offset} of {header.size} bytes")
    return data[header.offset : header.offset + header.size]
