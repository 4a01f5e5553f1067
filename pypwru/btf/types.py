"""The values that BTF queries give: kinds and records, named as in include/uapi/linux/btf.h."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """``BTF_KIND_*``; VOID is type id 0, which no record describes."""

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


KINDS = tuple(Kind)  # by number, without a gap
# Layers that change how a type is spelt or used, never its layout.
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
UNREFERRING = SIZED | {Kind.VOID, Kind.FWD}


class Type(NamedTuple):
    """``struct btf_type``.

    ``size`` is in bytes and 0 for kinds that carry none. ``type`` is the id referred to (the
    element of an ARRAY, the return type of a FUNC_PROTO, the prototype of a FUNC), else 0.
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
    """``struct btf_member``; ``bit_offset`` is from the start, ``bit_size`` 0 if no bit field."""

    name: str
    type: int
    bit_offset: int
    bit_size: int


class Array(NamedTuple):
    """``struct btf_array``: element type, index type, number of elements."""

    type: int
    index_type: int
    nelems: int


class Integer(NamedTuple):
    """The word after a BTF_KIND_INT: ``encoding`` is BTF_INT_SIGNED 1, CHAR 2, BOOL 4, or'ed."""

    encoding: int
    bit_offset: int
    bits: int


class Field(NamedTuple):
    """Where a member is, counted from the start of the struct that the query named.

    ``offset`` is in bytes. For a bit field ``bit_size`` is not 0 and ``bit_offset`` (0..7) counts
    on from ``offset``; ``size`` is that of the declared type, in bytes; ``type`` its id.
    """

    offset: int
    bit_offset: int
    bit_size: int
    size: int
    type: int
