"""Format up to eight bytes of kernel memory by their BTF type, as text and for JSON.

The format is pwru's: integers decimal in the machine's byte order, even of type ``__be16`` (so
``skb->protocol`` of IP is 8), enums by name, pointers in hexadecimal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf import members
from pypwru.btf.types import Kind, MemberRef, Type

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

_SIGNED, _CHAR, _BOOL = 1, 2, 4  # encoding of a BTF_KIND_INT


class FormattedValue(NamedTuple):
    """A formatted value.

    Args:
        text: for text output.
        json_value: for JSON: str, int, bool, list, dict or None.
    """

    text: str
    json_value: object


ValueFormatter = Callable[[int], FormattedValue]
"""Formats a value, given as an unsigned integer of its bits."""


def make_formatter(btf: BTF, type_id: int, bits: int) -> ValueFormatter:
    """Return the function that formats values of a type.

    Args:
        btf: the kernel's types.
        type_id: BTF type id.
        bits: width of the value, less than the type's for a bit field.
    """
    found = btf.type(btf.resolve(type_id))
    make = _FORMATTER_MAKERS.get(found.kind)
    return make(btf, found, bits) if make else _format_unknown


def _format_unknown(_: int) -> FormattedValue:
    """Return pwru's text for a value that it can't format."""
    return FormattedValue("..ERR..", None)


def _integer_formatter(btf: BTF, found: Type, bits: int) -> ValueFormatter:
    encoding = btf.integer(found.id).encoding
    if encoding == _BOOL:
        return _format_bool
    if encoding == _CHAR and bits == 8:
        return _format_character
    return _signed_formatter(bits) if encoding & _SIGNED else _format_unsigned


def _format_unsigned(value: int) -> FormattedValue:
    return FormattedValue(str(value), value)


def _signed_formatter(bits: int) -> ValueFormatter:
    sign_bit = 1 << bits - 1
    return lambda value: _format_unsigned((value ^ sign_bit) - sign_bit)


def _format_bool(value: int) -> FormattedValue:
    return FormattedValue("true", True) if value else FormattedValue("false", False)


def _format_character(value: int) -> FormattedValue:
    character = chr(value)
    if not character.isprintable():
        return FormattedValue(f"{value:#x}", value)
    quoted = "'" + ("\\" if character in "'\\" else "") + character + "'"
    return FormattedValue(quoted, character)


def _enum_formatter(btf: BTF, found: Type, bits: int) -> ValueFormatter:
    names: dict[int, str] = {}
    for name, value in btf.enumerators(found.id).items():
        names.setdefault(value & (1 << bits) - 1, name)
    format_number = _signed_formatter(bits) if found.kind_flag else _format_unsigned

    def format_value(value: int) -> FormattedValue:
        return (
            FormattedValue(names[value], names[value]) if value in names else format_number(value)
        )

    return format_value


def _pointer_formatter(_: BTF, __: Type, ___: int) -> ValueFormatter:
    return lambda value: FormattedValue(f"{value:#x}", f"{value:#x}")


def _array_formatter(btf: BTF, found: Type, bits: int) -> ValueFormatter:
    array = btf.array(found.id)
    element = btf.type(btf.resolve(array.type))
    if element.kind is Kind.INT and element.name == "char":
        return _string_formatter(bits // 8)
    size = 8 * btf.size(array.type)
    format_element = make_formatter(btf, array.type, size)

    def format_array(value: int) -> FormattedValue:
        formatted = [
            format_element(value >> index * size & (1 << size) - 1) for index in range(array.nelems)
        ]
        return FormattedValue(
            f"[{', '.join(part.text for part in formatted)}]",
            [part.json_value for part in formatted],
        )

    return format_array


def _string_formatter(size: int) -> ValueFormatter:
    def format_value(value: int) -> FormattedValue:
        data = value.to_bytes(size, "little").split(b"\0")[0]
        text = data.decode(errors="backslashreplace")
        return FormattedValue(json.dumps(text), text)

    return format_value


def _struct_formatter(btf: BTF, found: Type, _: int) -> ValueFormatter:
    parts = []
    for member in btf.members(found.id):
        field = members.to_field(btf, MemberRef(member.type, member.bit_offset, member.bit_size))
        bits = field.bit_size or 8 * field.size
        start = 8 * field.offset + field.bit_offset
        parts.append((member.name, start, bits, make_formatter(btf, member.type, bits)))

    def format_value(value: int) -> FormattedValue:
        formatted = [
            (name, part(value >> start & (1 << bits) - 1)) for name, start, bits, part in parts
        ]
        text = ", ".join(f'"{name}": {part.text}' for name, part in formatted)
        return FormattedValue("{" + text + "}", {name: part.json_value for name, part in formatted})

    return format_value


_FORMATTER_MAKERS: dict[Kind, Callable[[BTF, Type, int], ValueFormatter]] = {
    Kind.INT: _integer_formatter,
    Kind.ENUM: _enum_formatter,
    Kind.ENUM64: _enum_formatter,
    Kind.PTR: _pointer_formatter,
    Kind.ARRAY: _array_formatter,
    Kind.STRUCT: _struct_formatter,
    Kind.UNION: _struct_formatter,
}
