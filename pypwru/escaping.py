"""Escape untrusted text for a terminal: names of processes and interfaces, comments of rules."""

from __future__ import annotations

_SHORT_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
# Code points of Unicode's Default_Ignorable_Code_Point that str.isprintable() accepts as letters
# or marks, and BRAILLE PATTERN BLANK.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def escape_unprintable(text: str) -> str:
    r"""Return ``text`` with visible characters unchanged and all others escaped.

    Control characters, characters that change the direction of writing and invisible ones are
    escaped as in JSON, ``\n`` or ``\u001b``; a byte that is not UTF-8 (a surrogate of PEP 383 in
    ``text``) becomes ``\xff``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(char: str) -> str:
    if char.isprintable() and char not in _INVISIBLE:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    utf16 = char.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT_ESCAPES.get(char) or "".join(
        f"\\u{utf16[at : at + 4]}" for at in range(0, len(utf16), 4)
    )
