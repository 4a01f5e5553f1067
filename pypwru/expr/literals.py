"""Values of literals: numbers, character constants and strings, by C's rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pypwru.expr import int_types
from pypwru.expr.int_types import U32, U64, IntType

if TYPE_CHECKING:
    from pypwru.expr.lexer import Token

# C11, 6.4.4.1; 0b is from C23, 0o from C2y.
_NUMBER = re.compile(
    r"(?:0[xX](?P<x>[0-9a-fA-F]+)|0[oO](?P<o>[0-7]+)|0[bB](?P<b>[01]+)|0(?P<c>[0-7]+)"
    r"|(?P<d>0|[1-9][0-9]*))"
    r"(?P<suffix>[uU]?[lL]{0,2}|[lL]{1,2}[uU])"
)
_BASES = {"x": 16, "o": 8, "b": 2, "c": 8, "d": 10}
_MAX_DIGITS = 64  # in any base: int() of Python refuses more than 4,300
_ESCAPE = re.compile(
    r"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|(?P<octal>[0-7]{1,3})|(?P<plain>.))", re.DOTALL
)
_SIMPLE_ESCAPES = {
    "n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "f": 12, "v": 11,
    "\\": 92, "'": 39, '"': 34, "?": 63,
}  # fmt: skip


def parse_number(token: Token) -> tuple[int, IntType]:
    """Return the value of a NUMBER token and its type.

    Raises:
        FilterError: it is not a C integer constant, or needs more than 64 bits.
    """
    match = _NUMBER.fullmatch(token.text)
    if match is None:
        raise token.position.error(
            f"'{_truncate(token.text)}' is not a number: write 10, 0xa, 012 or 0b1010, "
            "optionally followed by U or L"
        )
    base, digits = next((_BASES[key], match[key]) for key in _BASES if match[key])
    significant = digits.lstrip("0") or "0"
    value = int(significant[: _MAX_DIGITS + 1], base)
    if value >> 64:
        raise token.position.error(f"{_truncate(token.text)} does not fit into 64 bits")
    return value, _literal_type(value, match["suffix"].upper(), base)


def _truncate(text: str) -> str:
    return text if len(text) <= _MAX_DIGITS else f"{text[:20]}... ({len(text)} characters)"


def _literal_type(value: int, suffix: str, base: int) -> IntType:
    """Return the type by C11, 6.4.4.1.

    A number too large for an int is a long in decimal, and unsigned in any other base.
    """
    if value >> 63 or ("U" in suffix and (suffix != "U" or value > U32.high)):
        return U64
    if suffix == "U" or (base != 10 and not suffix and value.bit_length() == 32):
        return U32
    return int_types.constant_type(value)


def parse_character(token: Token) -> int:
    """Return the value of a CHARACTER token, 0 to 255.

    Raises:
        FilterError: it is not exactly one byte.
    """
    data = _decode(token)
    if len(data) != 1:
        raise token.position.error(f"{token.text} is not one character of one byte")
    return data[0]


def parse_string(token: Token) -> bytes:
    """Return the bytes of a STRING token, without a terminating NUL.

    Raises:
        FilterError: an unknown escape sequence, or a NUL inside the string.
    """
    data = _decode(token)
    if 0 in data:
        raise token.position.error("a string ends at its first NUL: leave it out")
    return data


def _decode(token: Token) -> bytes:
    text, data, offset = token.text[1:-1], b"", 0
    while offset < len(text):
        if text[offset] != "\\":
            data += text[offset].encode(errors="surrogateescape")
            offset += 1
            continue
        match = _ESCAPE.match(text, offset)
        value = _escape_value(match) if match else None
        if match is None or value is None:
            position = token.position
            raise position._replace(column=position.column + 1 + offset).error(
                "C has no such escape"
            )
        data += bytes((value,))
        offset = match.end()
    return data


def _escape_value(match: re.Match[str]) -> int | None:
    if match["hex"]:
        return int(match["hex"], 16)
    if match["octal"]:
        return int(match["octal"], 8) & 0xFF
    return _SIMPLE_ESCAPES.get(match["plain"])
