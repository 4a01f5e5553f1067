"""Value types that BTF queries return, named as in include/uapi/linux/btf.h."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """``BTF_KIND_*``; VOID (BTF_KIND_UNKN) is that of type id 0, which has no record."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


KINDS = tuple(Kind)  # index is the number: there are no gaps
# Kinds that change how a type is spelled or used, never its layout.
MODIFIERS = frozenset(
    {Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG},
)
STRUCTS = (Kind.STRUCT, Kind.UNION)
SIZED = frozenset(
    {
        Kind.INT,
        Kind.STRUCT,
        Kind.UNION,
        Kind.ENUM,
        Kind.ENUM64,
        Kind.FLOAT,
        Kind.DATASEC,
    },
)
LEAF_KINDS = SIZED | {Kind.VOID, Kind.FWD}


class Type(NamedTuple):
    """``struct btf_type``.

    Args:
        id: type id.
        kind: BTF_KIND_*.
        name: empty if anonymous.
        vlen: number of members, parameters or enumerators; linkage of a FUNC.
        kind_flag: bit 31 of ``info``; its meaning depends on the kind.
        size: in bytes; 0 for kinds without one.
        type: type id referred to (element of an ARRAY, return type of a FUNC_PROTO, prototype of a
            FUNC), else 0.
    """

    id: int
    kind: Kind
    name: str
    vlen: int
    kind_flag: bool
    size: int
    type: int


class Param(NamedTuple):
    """``struct btf_param``; the last one of a variadic function is ``Param("", 0)``."""

    name: str
    type: int


class Member(NamedTuple):
    """``struct btf_member``.

    Args:
        name: empty if anonymous.
        type: type id.
        bit_offset: from the start of the struct.
        bit_size: width of a bit field; 0 for other members, and without kind_flag.
    """

    name: str
    type: int
    bit_offset: int
    bit_size: int


class MemberRef(NamedTuple):
    """A named member, relative to the struct that was searched.

    Args:
        type: type id of the member.
        bit_offset: from the start of the outermost struct.
        bit_size: width of a bit field; 0 for other members.
    """

    type: int
    bit_offset: int
    bit_size: int


class Array(NamedTuple):
    """``struct btf_array``: element type, index type, number of elements."""

    type: int
    index_type: int
    nelems: int


class Integer(NamedTuple):
    """The word after a BTF_KIND_INT.

    Args:
        encoding: BTF_INT_SIGNED 1 | BTF_INT_CHAR 2 | BTF_INT_BOOL 4.
        bit_offset: BTF_INT_OFFSET.
        bits: BTF_INT_BITS.
    """

    encoding: int
    bit_offset: int
    bits: int


class Field(NamedTuple):
    """Location of a member in the struct that was queried.

    Args:
        offset: bytes from the start of the struct.
        bit_offset: 0..7, of a bit field: counted from ``offset``.
        bit_size: width of a bit field; 0 for other members.
        size: bytes of the declared type.
        type: type id.
    """

    offset: int
    bit_offset: int
    bit_size: int
    size: int
    type: int
