"""Format up to eight bytes of kernel memory by their BTF type, as text and for JSON.

The format is pwru's: integers decimal in the machine's byte order, even of type ``__be16`` (so
``skb->protocol`` of IP is 8), enums by name, pointers in hexadecimal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf import members
from pypwru.btf.members import Place
from pypwru.btf.types import Kind, Type

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

_SIGNED, _CHAR, _BOOL = 1, 2, 4  # encoding of a BTF_KIND_INT


class Shown(NamedTuple):
    """A formatted value.

    Args:
        text: for text output.
        plain: for JSON: str, int, bool, list, dict or None.
    """

    text: str
    plain: object


Show = Callable[[int], Shown]
"""Formats a value, given as an unsigned integer of its bits."""


def shower(btf: BTF, type_id: int, bits: int) -> Show:
    """Return the function that formats values of a type.

    Args:
        btf: the kernel's types.
        type_id: BTF type id.
        bits: width of the value, less than the type's for a bit field.
    """
    found = btf.type(btf.resolve(type_id))
    make = _MAKERS.get(found.kind)
    return make(btf, found, bits) if make else _unknown


def _unknown(_: int) -> Shown:
    """Return pwru's text for a value that it can't format."""
    return Shown("..ERR..", None)


def _integer(btf: BTF, found: Type, bits: int) -> Show:
    encoding = btf.integer(found.id).encoding
    if encoding == _BOOL:
        return _bool
    if encoding == _CHAR and bits == 8:
        return _character
    return _signed(bits) if encoding & _SIGNED else _unsigned


def _unsigned(value: int) -> Shown:
    return Shown(str(value), value)


def _signed(bits: int) -> Show:
    half = 1 << bits - 1
    return lambda value: _unsigned((value ^ half) - half)


def _bool(value: int) -> Shown:
    return Shown("true", True) if value else Shown("false", False)


def _character(value: int) -> Shown:
    character = chr(value)
    if not character.isprintable():
        return Shown(f"{value:#x}", value)
    quoted = "'" + ("\\" if character in "'\\" else "") + character + "'"
    return Shown(quoted, character)


def _enum(btf: BTF, found: Type, bits: int) -> Show:
    names: dict[int, str] = {}
    for name, value in btf.enumerators(found.id).items():
        names.setdefault(value & (1 << bits) - 1, name)
    number = _signed(bits) if found.kind_flag else _unsigned

    def show(value: int) -> Shown:
        return Shown(names[value], names[value]) if value in names else number(value)

    return show


def _pointer(_: BTF, __: Type, ___: int) -> Show:
    return lambda value: Shown(f"{value:#x}", f"{value:#x}")


def _array(btf: BTF, found: Type, bits: int) -> Show:
    array = btf.array(found.id)
    element = btf.type(btf.resolve(array.type))
    if element.kind is Kind.INT and element.name == "char":
        return _string(bits // 8)
    size = 8 * btf.size(array.type)
    show = shower(btf, array.type, size)

    def elements(value: int) -> Shown:
        shown = [show(value >> place * size & (1 << size) - 1) for place in range(array.nelems)]
        return Shown(f"[{', '.join(one.text for one in shown)}]", [one.plain for one in shown])

    return elements


def _string(size: int) -> Show:
    def show(value: int) -> Shown:
        data = value.to_bytes(size, "little").split(b"\0")[0]
        text = data.decode(errors="backslashreplace")
        return Shown(json.dumps(text), text)

    return show


def _struct(btf: BTF, found: Type, _: int) -> Show:
    parts = []
    for member in btf.members(found.id):
        field = members.field(btf, Place(member.type, member.bit_offset, member.bit_size))
        bits = field.bit_size or 8 * field.size
        start = 8 * field.offset + field.bit_offset
        parts.append((member.name, start, bits, shower(btf, member.type, bits)))

    def show(value: int) -> Shown:
        shown = [(name, one(value >> start & (1 << bits) - 1)) for name, start, bits, one in parts]
        text = ", ".join(f'"{name}": {one.text}' for name, one in shown)
        return Shown("{" + text + "}", {name: one.plain for name, one in shown})

    return show


_MAKERS: dict[Kind, Callable[[BTF, Type, int], Show]] = {
    Kind.INT: _integer,
    Kind.ENUM: _enum,
    Kind.ENUM64: _enum,
    Kind.PTR: _pointer,
    Kind.ARRAY: _array,
    Kind.STRUCT: _struct,
    Kind.UNION: _struct,
}
