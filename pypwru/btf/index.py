"""Where each type record starts and which types bear a name: all that a query needs beforehand.

One pass over the record headers finds the places; no record becomes an object until it is asked
for. The result is a few flat arrays, so that a cache gives it back at the price of a copy.
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
KIND_NUMBERS = (
    128  # BTF_INFO_KIND has seven bits since Linux 7.1, five before; the two were zero then
)
VLEN = 0xFFFFFF  # 24 bits since the same change, 16 before; the eight were zero then

_HEADER_WORDS = 3  # struct btf_type
# Words after struct btf_type: (once, for each of vlen).
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
    """The arrays; entry ``i`` of the first two belongs to type id ``first_id + i``.

    ``positions``: index of the record's first word in the type section. ``kinds``: its kind.
    ``names``: crc32(name) << 32 | type id of every named type, sorted. ``carriers``: the answer to
    the one question that every run asks, see ``carriers.find``; empty when not yet known.
    """

    positions: array[int]
    kinds: bytes
    names: array[int]
    carriers: array[int]


def scan(words: Sequence[int], layout: Sequence[tuple[int, int]] = ()) -> tuple[array[int], bytes]:
    """Positions and kinds of all records of a type section.

    Args:
        words: the section as 32-bit words of this host's byte order.
        layout: (words once, words for each of vlen) by kind, as the blob's own table of
            ``struct btf_layout`` gives them; it lets kinds newer than this module be stepped over.

    Raises:
        BTFError: a kind that neither this module nor ``layout`` knows; a record cut off.
    """
    steps, strides = _steps(layout)
    positions, kinds = array("I"), bytearray()
    at, end = 0, len(words)
    try:
        while at < end:
            info = words[at + 1]
            kind = info >> 24 & 0x7F
            positions.append(at)
            kinds.append(kind)
            if not steps[kind]:
                raise _unknown(kind, len(kinds))
            at += steps[kind] + strides[kind] * (info & VLEN)
    except IndexError:
        raise BTFError(f"BTF is malformed: type record {len(kinds)} is cut off") from None
    if at != end:
        raise BTFError(f"BTF is malformed: type record {len(kinds)} is cut off")
    return positions, bytes(kinds)


def _unknown(kind: int, record: int) -> BTFError:
    return BTFError(
        f"BTF kind {kind} (record {record}) is not known to this version of pypwru: update it, or "
        "give --kernel-btf FILE made by an older pahole"
    )


def _steps(layout: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    steps = [0] * KIND_NUMBERS
    strides = [0] * KIND_NUMBERS
    for kind, (once, each) in [*enumerate(layout[:KIND_NUMBERS]), *_TRAILERS.items()]:
        if kind != Kind.VOID:
            steps[kind], strides[kind] = _HEADER_WORDS + once, each
    return steps, strides


def hash_names(
    words: Sequence[int], positions: Sequence[int], first_id: int, name: Callable[[int], bytes]
) -> array[int]:
    """``Index.names`` of the records at ``positions``; ``name`` gives the bytes at an offset."""
    named = []
    for type_id, at in enumerate(positions, first_id):
        offset = words[at]
        if offset:
            named.append(crc32(name(offset)) << 32 | type_id)
    named.sort()
    return array("Q", named)


def pack(index: Index) -> bytes:
    """``index`` as bytes for a cache of this host."""
    parts = [part if isinstance(part, bytes) else part.tobytes() for part in index]
    return _LENGTHS.pack(*map(len, parts)) + b"".join(parts)


def unpack(packed: bytes) -> Index:
    """What ``pack`` made."""
    arrays = []
    start = _LENGTHS.size
    for code, length in zip("IBQI", _LENGTHS.unpack_from(packed), strict=True):
        part = array(code)
        part.frombytes(packed[start : start + length])
        arrays.append(part)
        start += length
    positions, kinds, names, carriers = arrays
    return Index(positions, kinds.tobytes(), names, carriers)
