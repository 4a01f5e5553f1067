"""Parse and format values as Go does: pwru is a Go program, and so are its command line and log.

Pure. A parser raises ValueError with the text of Go's error, so that pypwru's usage errors equal
pwru's. Sources: Go's strconv (atob.go, atoi.go, quote.go), encoding/csv (reader.go) and log/slog
(text_handler.go).
"""

from __future__ import annotations

import os
import re

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_PREFIXES = {"0b": 2, "0o": 8, "0x": 16}
# strconv.underscoreOK: single underscores between digits, or between the base prefix and a digit.
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


def _escape(char: str, quote_char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char == quote_char:
        return f"\\{char}"
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte of argv that isn't UTF-8, as a surrogate (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_quote(text: str, quote_char: str = '"') -> str:
    """Return ``text`` as strconv.Quote does; ``quote_char`` is ``'`` for strconv.QuoteRune."""
    return quote_char + "".join(_escape(char, quote_char) for char in text) + quote_char


def format_log_value(value: object) -> str:
    """Return a log attribute's value as slog writes it.

    slog quotes a value that is empty or contains a space, ``=``, ``"`` or an unprintable character.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if text and text.isprintable() and not any(char in text for char in ' ="'):
        return text
    return go_quote(text)


def _number_error(function: str, text: str, reason: str) -> ValueError:
    return ValueError(f"strconv.{function}: parsing {go_quote(text)}: {reason}")


def parse_bool(text: str) -> bool:
    """Return the boolean in ``text``, as strconv.ParseBool.

    Raises:
        ValueError: with Go's wording.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _number_error("ParseBool", text, "invalid syntax")


def _split_base(text: str) -> tuple[int, str]:
    prefix = text[:2].lower()
    if len(text) >= 3 and prefix in _PREFIXES:
        return _PREFIXES[prefix], text[2:]
    if text.startswith("0"):
        return 8, text[1:]
    return 10, text


def _parse_magnitude(function: str, text: str, unsigned: str, maximum: int) -> int:
    """Return the magnitude of the number in ``text``.

    Args:
        function: of strconv, for the error.
        text: the whole text, for the error.
        unsigned: ``text`` without its sign.
        maximum: maximum value.
    """
    base, digits = _split_base(unsigned)
    value = 0
    for digit in digits.replace("_", "") if unsigned else " ":
        if not digit.isascii() or not digit.isalnum() or int(digit, 36) >= base:
            raise _number_error(function, text, "invalid syntax")
        value = value * base + int(digit, 36)
        if value > maximum:  # Go stops here, even if an invalid digit follows
            raise _number_error(function, text, "value out of range")
    if "_" in unsigned and not _UNDERSCORES.fullmatch(unsigned):
        raise _number_error(function, text, "invalid syntax")
    return value


def parse_uint(text: str, bits: int) -> int:
    """Return the number in ``text``, as strconv.ParseUint(text, 0, bits).

    The prefixes 0x, 0o, 0b, a leading zero for octal, and underscores are accepted.

    Raises:
        ValueError: with Go's wording.
    """
    return _parse_magnitude("ParseUint", text, text, (1 << bits) - 1)


def parse_uint_base(text: str, base: int, bits: int) -> int:
    """Return the number in ``text``, as strconv.ParseUint(text, base, bits) with ``base`` > 0.

    Neither a prefix nor underscores are accepted.

    Args:
        text: digits.
        base: 2 to 36.
        bits: of the result.

    Raises:
        ValueError: with Go's wording.
    """
    if not text or not text.isascii() or not text.isalnum():
        raise _number_error("ParseUint", text, "invalid syntax")
    if any(int(digit, 36) >= base for digit in text):
        raise _number_error("ParseUint", text, "invalid syntax")
    # A number of ``bits`` bits has no more digits, and int() rejects thousands of digits with an
    # error of its own.
    digits = text.lstrip("0")[: bits + 1] or "0"
    if (value := int(digits, base)) >> bits:
        raise _number_error("ParseUint", text, "value out of range")
    return value


def parse_int(text: str, bits: int) -> int:
    """Return the number in ``text``, as strconv.ParseInt(text, 0, bits).

    Raises:
        ValueError: with Go's wording.
    """
    is_negative = text.startswith("-")
    unsigned = text[1:] if text[:1] in {"-", "+"} else text
    # ParseInt parses 64 bits first, then checks the range.
    value = _parse_magnitude("ParseInt", text, unsigned, (1 << 64) - 1)
    if value > (1 << (bits - 1)) - (not is_negative):
        raise _number_error("ParseInt", text, "value out of range")
    return -value if is_negative else value


def _csv_error(line: str, rest: str, reason: str) -> ValueError:
    # encoding/csv counts columns in bytes, from 1.
    column = len(os.fsencode(line)) - len(os.fsencode(rest)) + 1
    return ValueError(f"parse error on line 1, column {column}: {reason}")


def _parse_quoted_field(line: str, rest: str) -> tuple[str, str]:
    """Parse a quoted field.

    Args:
        line: the whole record, for the column of an error.
        rest: what follows the opening quote.

    Returns:
        The field, and what follows its closing quote.
    """
    field = ""
    while True:
        part, closing, after = rest.partition('"')
        field += part
        if not closing:
            raise _csv_error(line, "", 'extraneous or missing " in quoted-field')
        if not after or after[0] == ",":
            return field, after
        if after[0] != '"':
            raise _csv_error(line, closing + after, 'extraneous or missing " in quoted-field')
        field, rest = field + '"', after[1:]


def parse_csv(text: str) -> tuple[str, ...]:
    """Return the fields of one encoding/csv record, as pflag parses a StringSlice value.

    An empty ``text`` has no field. A line break is an error: no name contains one, and pflag would
    ignore what follows it.

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
            field, rest = _parse_quoted_field(text, rest[1:])
        else:
            field, comma, after = rest.partition(",")
            if '"' in field:
                bare = rest[field.index('"') :]
                raise _csv_error(text, bare, 'bare " in non-quoted-field')
            rest = comma + after
        fields.append(field)
        if not rest:
            return tuple(fields)
        rest = rest[1:]
