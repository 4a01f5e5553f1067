"""Hex dump in the format of Go's ``encoding/hex`` Dump, which is that of ``hexdump -vC``."""

from __future__ import annotations

_LINE = 16
_HALF = 8
_HEX_WIDTH = 3 * _LINE + 1


def dump(octets: bytes) -> str:
    """Return lines of 16 bytes: offset, two groups of hex digits, ASCII with ``.`` for others."""
    return "".join(_line(octets[at : at + _LINE], at) for at in range(0, len(octets), _LINE))


def _line(octets: bytes, at: int) -> str:
    digits = f"{octets[:_HALF].hex(' ')}  {octets[_HALF:].hex(' ')}"
    shown = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in octets)
    return f"{at:08x}  {digits:<{_HEX_WIDTH}} |{shown}|\n"
