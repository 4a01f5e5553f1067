"""Index of a BTF blob: position and kind of each type record, and type ids by name.

One pass over the record headers finds the positions; a record is decoded into an object only when
a query needs it. The index is a few flat arrays, so reading it from a cache costs one copy.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from pypwru.btf.types import Kind
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FORMAT = 1
KIND_COUNT = 128  # BTF_INFO_KIND: 7 bits since Linux 7.1; before, 5 bits and 2 that were zero
VLEN_MASK = 0xFFFFFF  # BTF_INFO_VLEN: 24 bits since Linux 7.1; before, 16 bits and 8 that were zero

_HEADER_WORDS = 3  # struct btf_type
# 32-bit words after struct btf_type: (once, per element of vlen).
_TRAILERS: dict[Kind, tuple[int, int]] = {
    Kind.INT: (1, 0),
    Kind.PTR: (0, 0),
    Kind.ARRAY: (3, 0),
    Kind.STRUCT: (0, 3),
    Kind.UNION: (0, 3),
    Kind.ENUM: (0, 2),
    Kind.FWD: (0, 0),
    Kind.TYPEDEF: (0, 0),
    Kind.VOLATILE: (0, 0),
    Kind.CONST: (0, 0),
    Kind.RESTRICT: (0, 0),
    Kind.FUNC: (0, 0),  # its vlen is the linkage
    Kind.FUNC_PROTO: (0, 2),
    Kind.VAR: (1, 0),
    Kind.DATASEC: (0, 3),
    Kind.FLOAT: (0, 0),
    Kind.DECL_TAG: (1, 0),
    Kind.TYPE_TAG: (0, 0),
    Kind.ENUM64: (0, 3),
}
_LENGTHS = struct.Struct("<4I")


class Index(NamedTuple):
    """Flat arrays; entry ``i`` of ``positions`` and ``kinds`` is type id ``first_id + i``.

    Args:
        positions: index of the record's first word in the type section.
        kinds: its BTF_KIND_*.
        names: ``crc32(name) << 32 | type id`` of every named type, ascending.
        skb_functions: result of ``argument_index.functions_taking`` for
            ``query.INDEXED_STRUCT``, which every run needs; empty if not computed.
    """

    positions: array[int]
    kinds: bytes
    names: array[int]
    skb_functions: array[int]


def scan(words: Sequence[int], layout: Sequence[tuple[int, int]] = ()) -> tuple[array[int], bytes]:
    """Return the positions and the kinds of all records of a type section.

    Args:
        words: the section as 32-bit words of this host's byte order.
        layout: (words once, words per element of vlen) by kind, from the blob's own ``struct
            btf_layout`` table; with it, kinds newer than this module can be skipped.

    Raises:
        BTFError: a kind that is neither in this module nor in ``layout``; a truncated record.
    """
    steps, strides = _record_strides(layout)
    positions, kinds = array("I"), bytearray()
    at, end = 0, len(words)
    try:
        while at < end:
            info = words[at + 1]
            kind = info >> 24 & 0x7F
            positions.append(at)
            kinds.append(kind)
            if not steps[kind]:
                raise _unknown_kind_error(kind, len(kinds))
            at += steps[kind] + strides[kind] * (info & VLEN_MASK)
    except IndexError:
        raise BTFError(f"BTF is malformed: type record {len(kinds)} is cut off") from None
    if at != end:
        raise BTFError(f"BTF is malformed: type record {len(kinds)} is cut off")
    return positions, bytes(kinds)


def _unknown_kind_error(kind: int, record: int) -> BTFError:
    return BTFError(
        f"BTF kind {kind} (record {record}) is not known to this version of pypwru: update it, or "
        "give --kernel-btf FILE made by an older pahole"
    )


def _record_strides(layout: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    steps = [0] * KIND_COUNT
    strides = [0] * KIND_COUNT
    for kind, (once, each) in [*enumerate(layout[:KIND_COUNT]), *_TRAILERS.items()]:
        if kind != Kind.VOID:
            steps[kind], strides[kind] = _HEADER_WORDS + once, each
    return steps, strides


def hash_names(
    words: Sequence[int], positions: Sequence[int], first_id: int, name: Callable[[int], bytes]
) -> array[int]:
    """Compute ``Index.names``.

    Args:
        words: the type section.
        positions: index of each record's first word in ``words``.
        first_id: type id of the first record.
        name: returns the string at an offset of the string section.
    """
    entries = []
    for type_id, at in enumerate(positions, first_id):
        offset = words[at]
        if offset:
            entries.append(crc32(name(offset)) << 32 | type_id)
    entries.sort()
    return array("Q", entries)


def pack(index: Index) -> bytes:
    """Serialize ``index``, in this host's byte order."""
    parts = [part if isinstance(part, bytes) else part.tobytes() for part in index]
    return _LENGTHS.pack(*map(len, parts)) + b"".join(parts)


def unpack(packed: bytes) -> Index:
    """Return the index that ``pack`` serialized."""
    arrays = []
    start = _LENGTHS.size
    for code, length in zip("IBQI", _LENGTHS.unpack_from(packed), strict=True):
        part = array(code)
        part.frombytes(packed[start : start + length])
        arrays.append(part)
        start += length
    positions, kinds, names, skb_functions = arrays
    return Index(positions, kinds.tobytes(), names, skb_functions)
