"""Bytes as Go's ``encoding/hex`` dumps them, which is how ``hexdump -vC`` does."""

from __future__ import annotations

_LINE = 16
_HALF = 8
_HEX_WIDTH = 3 * _LINE + 1


def dump(octets: bytes) -> str:
    """Lines of sixteen bytes: offset, hexadecimal in two halves, ASCII with ``.`` for the rest."""
    return "".join(_line(octets[at : at + _LINE], at) for at in range(0, len(octets), _LINE))


def _line(octets: bytes, at: int) -> str:
    digits = f"{octets[:_HALF].hex(' ')}  {octets[_HALF:].hex(' ')}"
    shown = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in octets)
    return f"{at:08x}  {digits:<{_HEX_WIDTH}} |{shown}|\n"
