"""Escape untrusted text for a terminal: names of processes and interfaces, comments of rules."""

from __future__ import annotations

_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
# Code points of Unicode's Default_Ignorable_Code_Point that str.isprintable() accepts as letters
# or marks, and BRAILLE PATTERN BLANK.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def escape_unprintable(text: str) -> str:
    """Return ``text`` with visible characters unchanged and all others escaped.

    Control characters, characters that change the direction of writing and invisible ones are
    escaped as in JSON, ``\\n`` or ``\\u001b``; a byte that is not UTF-8 (a surrogate of PEP 383 in
    ``text``) becomes ``\\xff``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(letter: str) -> str:
    if letter.isprintable() and letter not in _INVISIBLE:
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT.get(letter) or "".join(
        f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)
    )
