"""Words as Go reads and writes them, because pwru's command line and log are Go's.

Pure. A reader raises ValueError whose text is Go's own error, so that an error of pypwru's command
line reads as pwru's does. Sources: Go's strconv (atob.go, atoi.go, quote.go), encoding/csv
(reader.go) and log/slog (text_handler.go).
"""

from __future__ import annotations

import os
import re

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_PREFIXES = {"0b": 2, "0o": 8, "0x": 16}
# strconv.underscoreOK: one underscore between digits, or between the base prefix and a digit.
_UNDERSCORES = re.compile(r"(0[bBoOxX]_?)?[0-9a-zA-Z]+(_[0-9a-zA-Z]+)*")
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def _escape(letter: str, around: str) -> str:
    code = ord(letter)
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter == around:
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    if 0xDC80 <= code <= 0xDCFF:  # a byte of argv that isn't UTF-8: PEP 383 keeps it here
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quote(text: str, around: str = '"') -> str:
    """``text`` as strconv.Quote writes it; ``around`` is ``'`` for strconv.QuoteRune."""
    return around + "".join(_escape(letter, around) for letter in text) + around


def log_value(value: object) -> str:
    """A value of a log line: slog quotes what is empty or has a space, '=', '"' or unprintables."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text and text.isprintable() and not any(letter in text for letter in ' ="'):
        return text
    return quote(text)


def _failure(function: str, text: str, reason: str) -> ValueError:
    return ValueError(f"strconv.{function}: parsing {quote(text)}: {reason}")


def parse_bool(text: str) -> bool:
    """strconv.ParseBool.

    Raises:
        ValueError: with Go's wording.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _failure("ParseBool", text, "invalid syntax")


def _split_base(text: str) -> tuple[int, str]:
    prefix = text[:2].lower()
    if len(text) >= 3 and prefix in _PREFIXES:
        return _PREFIXES[prefix], text[2:]
    if text.startswith("0"):
        return 8, text[1:]
    return 10, text


def _magnitude(function: str, text: str, unsigned: str, limit: int) -> int:
    """The number in ``unsigned``, the part of ``text`` after its sign; ``limit`` is its maximum."""
    base, digits = _split_base(unsigned)
    value = 0
    for digit in digits.replace("_", "") if unsigned else " ":
        if not digit.isascii() or not digit.isalnum() or int(digit, 36) >= base:
            raise _failure(function, text, "invalid syntax")
        value = value * base + int(digit, 36)
        if value > limit:  # Go stops here, before it sees what follows
            raise _failure(function, text, "value out of range")
    if "_" in unsigned and not _UNDERSCORES.fullmatch(unsigned):
        raise _failure(function, text, "invalid syntax")
    return value


def parse_uint(text: str, bits: int) -> int:
    """strconv.ParseUint(text, 0, bits): 0x, 0o, 0b, a leading zero for octal, underscores.

    Raises:
        ValueError: with Go's wording.
    """
    return _magnitude("ParseUint", text, text, (1 << bits) - 1)


def parse_digits(text: str, base: int, bits: int) -> int:
    """strconv.ParseUint(text, base, bits) of an explicit ``base``: no prefix and no underscore.

    Raises:
        ValueError: with Go's wording.
    """
    if not text or not text.isascii() or not text.isalnum():
        raise _failure("ParseUint", text, "invalid syntax")
    if any(int(digit, 36) >= base for digit in text):
        raise _failure("ParseUint", text, "invalid syntax")
    # No number of ``bits`` has more digits, and int() refuses thousands in words of its own.
    digits = text.lstrip("0")[: bits + 1] or "0"
    if (value := int(digits, base)) >> bits:
        raise _failure("ParseUint", text, "value out of range")
    return value


def parse_int(text: str, bits: int) -> int:
    """strconv.ParseInt(text, 0, bits).

    Raises:
        ValueError: with Go's wording.
    """
    negative = text.startswith("-")
    unsigned = text[1:] if text[:1] in {"-", "+"} else text
    # ParseInt reads 64 bits first, then compares with its own range.
    value = _magnitude("ParseInt", text, unsigned, (1 << 64) - 1)
    if value > (1 << (bits - 1)) - (not negative):
        raise _failure("ParseInt", text, "value out of range")
    return -value if negative else value


def _csv_failure(line: str, rest: str, reason: str) -> ValueError:
    # encoding/csv counts columns in bytes, from 1.
    column = len(os.fsencode(line)) - len(os.fsencode(rest)) + 1
    return ValueError(f"parse error on line 1, column {column}: {reason}")


def _quoted_field(line: str, rest: str) -> tuple[str, str]:
    """The field of ``rest``, after its opening quote, and what follows its closing quote."""
    field = ""
    while True:
        part, closing, after = rest.partition('"')
        field += part
        if not closing:
            raise _csv_failure(line, "", 'extraneous or missing " in quoted-field')
        if not after or after[0] == ",":
            return field, after
        if after[0] != '"':
            raise _csv_failure(line, closing + after, 'extraneous or missing " in quoted-field')
        field, rest = field + '"', after[1:]


def parse_csv(text: str) -> tuple[str, ...]:
    """One record of encoding/csv, as pflag's StringSlice reads a value; ``""`` has no field.

    A value with a line break in it is refused: no name has one, and pflag would drop what follows.

    Raises:
        ValueError: with Go's wording.
    """
    if not text:
        return ()
    if "\n" in text or "\r" in text:
        raise ValueError("a line break in a list of names")
    fields = []
    rest = text
    while True:
        if rest.startswith('"'):
            field, rest = _quoted_field(text, rest[1:])
        else:
            field, comma, after = rest.partition(",")
            if '"' in field:
                bare = rest[field.index('"') :]
                raise _csv_failure(text, bare, 'bare " in non-quoted-field')
            rest = comma + after
        fields.append(field)
        if not rest:
            return tuple(fields)
        rest = rest[1:]
