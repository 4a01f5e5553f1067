"""Parser of BTF: bytes in, an indexed ``Blob`` out. Pure.

The format is that of Documentation/bpf/btf.rst and include/uapi/linux/btf.h: a header, a section
of type records (all of 32-bit words), a section of NUL-terminated strings. A split blob (a
module's) continues the type ids and the string offsets of its base.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from typing import NamedTuple
from zlib import crc32

from pypwru import cache
from pypwru.btf import index as indexing
from pypwru.btf.index import Index
from pypwru.errors import BTFError

MAGIC = 0xEB9F
VERSION = 1
_ORDERS = {MAGIC.to_bytes(2, "little"): "little", MAGIC.to_bytes(2, "big"): "big"}
_HEADER = "HBBIIIII"  # struct btf_header up to str_len
_LAYOUT = "II"  # layout_off, layout_len (since Linux 7.1)


class Blob(NamedTuple):
    """The sections of one BTF blob, with its index. Not to be modified.

    Args:
        words: the type section in this host's byte order.
        strings: the string section.
        index: of its own records, without those of the base.
        base: the blob that this one continues, or None.
        first_id: type id of its first record; 1 without a base, as id 0 is void.
        first_string: string offset of the first byte of ``strings``; 0 without a base.
        digest: of the bytes that were parsed, those of the base included.
    """

    words: array[int]
    strings: bytes
    index: Index  # type: ignore[assignment]  # and not tuple.index()
    base: Blob | None
    first_id: int
    first_string: int
    digest: str

    @property
    def end_id(self) -> int:
        """One more than its last type id."""
        return self.first_id + len(self.index.positions)

    def find_record(self, type_id: int) -> tuple[array[int], int]:
        """Return the type section that holds record ``type_id``, and the index of its first word.

        Args:
            type_id: of this blob or its base; not 0, which has no record.

        Raises:
            BTFError: no such record.
        """
        blob: Blob | None = self
        while blob is not None and type_id < blob.first_id:
            blob = blob.base
        if blob is None or type_id >= blob.end_id:
            raise BTFError(f"BTF is malformed: type id {type_id} does not exist")
        return blob.words, blob.index.positions[type_id - blob.first_id]

    def string_at(self, offset: int) -> bytes:
        """Return the string at ``offset``, without its NUL.

        Raises:
            BTFError: outside the string section.
        """
        if offset < self.first_string and self.base is not None:
            return self.base.string_at(offset)
        start = offset - self.first_string
        end = self.strings.find(b"\0", start)
        if end < 0:
            raise BTFError(f"BTF is malformed: string offset {offset} is outside its strings")
        return self.strings[start:end]

    def ids_named(self, name: bytes) -> list[int]:
        """Return the ids, ascending, of the types named ``name``, those of the base included."""
        ids = self.base.ids_named(name) if self.base is not None else []
        names = self.index.names
        checksum = crc32(name)
        for position in range(bisect_left(names, checksum << 32), len(names)):
            if names[position] >> 32 != checksum:
                break
            type_id = names[position] & 0xFFFFFFFF
            words, at = self.find_record(type_id)
            if self.string_at(words[at]) == name:
                ids.append(type_id)
        return ids


def is_btf(data: bytes) -> bool:
    """Return whether ``data`` begins with the magic of raw BTF, in either byte order."""
    return data[:2] in _ORDERS


def parse(data: bytes, base: Blob | None = None, index: Index | None = None) -> Blob:
    """Parse raw BTF.

    Args:
        data: raw BTF of either byte order.
        base: the blob that a split one continues; None for vmlinux.
        index: of these same bytes, from a cache; None computes it.

    Raises:
        BTFError: not BTF, malformed, of an unsupported version, or with an unknown kind.
    """
    order, sections = _sections(data)
    words = _type_words(sections[0], order)
    strings = _check_strings(sections[1], base)
    digest = cache.digest(*([base.digest.encode()] if base else []), data)
    first_id = base.end_id if base else 1
    first_string = base.first_string + len(base.strings) if base else 0
    if index is not None:
        return Blob(words, strings, index, base, first_id, first_string, digest)
    positions, kinds = indexing.scan(words, _parse_layout(sections[2], order))
    partial_index = Index(positions, kinds, array("Q"), array("I"))
    blob = Blob(words, strings, partial_index, base, first_id, first_string, digest)
    names = indexing.hash_names(words, positions, first_id, blob.string_at)
    full_index = partial_index._replace(names=names)
    return Blob(words, strings, full_index, base, first_id, first_string, digest)


def _sections(data: bytes) -> tuple[str, tuple[bytes, bytes, bytes]]:
    """Return the byte order ("little" or "big") and the sections: types, strings, layouts."""
    if not is_btf(data):
        raise BTFError("not BTF: it begins with " + (data[:4].hex(" ") or "nothing"))
    order = _ORDERS[data[:2]]
    prefix = "<" if order == "little" else ">"
    size = struct.calcsize(prefix + _HEADER)
    if len(data) < size:
        raise BTFError(f"BTF is malformed: {len(data)} bytes, shorter than its header")
    _, version, _, header_length, *extents = struct.unpack_from(prefix + _HEADER, data)
    if version != VERSION:
        raise BTFError(f"BTF version {version} is not known to this version of pypwru: update it")
    if not size <= header_length <= len(data):
        raise BTFError(f"BTF is malformed: its header claims {header_length} bytes")
    if header_length >= size + struct.calcsize(_LAYOUT):
        extents += struct.unpack_from(prefix + _LAYOUT, data, size)
    else:
        extents += [0, 0]
    parts = []
    for offset, length in zip(extents[::2], extents[1::2], strict=True):
        start = header_length + offset
        if start + length > len(data):
            raise BTFError(f"BTF is malformed: a section ends at {start + length} of {len(data)}")
        parts.append(data[start : start + length])
    return order, (parts[0], parts[1], parts[2])


def _type_words(section: bytes, order: str) -> array[int]:
    if len(section) % 4:
        raise BTFError(f"BTF is malformed: a type section of {len(section)} bytes")
    words = array("I")
    words.frombytes(section)
    if order != sys.byteorder:
        words.byteswap()
    return words


def _check_strings(section: bytes, base: Blob | None) -> bytes:
    """Check as libbpf's btf_parse_str_sec(): a base begins with "", only split BTF may be empty."""
    if base is None and section[:1] != b"\0":
        raise BTFError("BTF is malformed: its strings do not begin with the empty one (split BTF?)")
    if section and section[-1] != 0:
        raise BTFError("BTF is malformed: its last string does not end")
    return section


def _parse_layout(section: bytes, order: str) -> list[tuple[int, int]]:
    """Return info_sz and elem_sz of ``struct btf_layout``, by kind, in 32-bit words.

    The struct is {u8 info_sz, elem_sz; u16 flags}, with sizes in bytes.
    """
    whole = section[: len(section) // 4 * 4]
    sizes = list(zip(whole[0::4], whole[1::4], strict=True))
    if any(once % 4 or each % 4 for once, each in sizes):
        raise BTFError("BTF is malformed: its layout table has sizes that are not whole words")
    return [(once // 4, each // 4) for once, each in sizes]
