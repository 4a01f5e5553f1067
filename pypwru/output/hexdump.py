"""Hex dump in the format of Go's ``encoding/hex`` Dump, which is that of ``hexdump -vC``."""

from __future__ import annotations

_LINE_SIZE = 16
_HALF_SIZE = 8
_HEX_WIDTH = 3 * _LINE_SIZE + 1


def dump(data: bytes) -> str:
    """Return lines of 16 bytes: offset, two groups of hex digits, ASCII with ``.`` for others."""
    return "".join(
        _line(data[offset : offset + _LINE_SIZE], offset)
        for offset in range(0, len(data), _LINE_SIZE)
    )


def _line(data: bytes, offset: int) -> str:
    digits = f"{data[:_HALF_SIZE].hex(' ')}  {data[_HALF_SIZE:].hex(' ')}"
    ascii_text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return f"{offset:08x}  {digits:<{_HEX_WIDTH}} |{ascii_text}|\n"
