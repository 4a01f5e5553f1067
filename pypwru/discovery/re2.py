"""Go's regular expressions, for ``--filter-func`` and ``--filter-nft-text``.

pwru takes the syntax of Go's regexp/syntax and selects a function when the leftmost-first match is
the whole name (``FindString(name) == name``): ``tcp|tcp_v4_rcv`` does not select tcp_v4_rcv.
Python's re finds the same leftmost-first match but spells some things differently, has things that
Go refuses, and reads some spellings as something else; so an expression is read by Go's grammar
here and written in what both agree on. Kernel names are ASCII, so are the classes.

Not reproduced: Go's linear running time. Nested repetitions can take Python exponential time.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from pypwru.discovery.re2_classes import PERL, POSIX, UNICODE, character, complement
from pypwru.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_REPEAT = 1000
_REPEAT = re.compile(r"([*+?]|\{(\d+)(?:(,)(\d*))?\})(\?)?", re.ASCII)
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"\(\?P?<(\w+)>", re.ASCII)
_HEX = re.compile(r"\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})")
_OCTAL = re.compile(r"\\(0[0-7]{0,2}|[1-7][0-7]{1,2})")
_POSIX_NAME = re.compile(r"\[:(\^?)(\w+):\]")
_UNICODE_NAME = re.compile(r"\\([pP])(?:\{(\^?)(\w+)\}|(\w))")
_ASSERTIONS = {"A": r"\A", "z": r"\Z", "b": r"\b", "B": r"\B"}
_CONTROL = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}


class _Refused(Exception):
    """Go's words for what is wrong, and the part of the expression."""

    def __init__(self, words: str, part: str = "") -> None:
        super().__init__(f"{words}: `{part}`" if part else words)


def whole_name_matcher(expression: str) -> Callable[[str], bool]:
    """The test that pwru applies to each function name.

    Args:
        expression: of Go's regexp/syntax; '' selects every name.

    Raises:
        FilterError: Go would refuse the expression, or it uses a Unicode class that has no ASCII
            counterpart here.
    """
    if not expression:
        return lambda name: True
    try:
        search = _compiled(expression).search
    except FilterError as error:
        raise FilterError(
            f"--filter-func {expression!r}: {error}, for example --filter-func '^ip_.*'"
        ) from error

    def matches(name: str) -> bool:
        found = search(name)
        return found is not None and found.group() == name

    return matches


def found_in(expression: str) -> Callable[[str], bool]:
    """The test whether an expression is found in a text.

    Raises:
        FilterError: as ``whole_name_matcher``; it names no flag.
    """
    search = _compiled(expression).search
    return lambda text: search(text) is not None


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(_Translation(expression).result(), re.ASCII)
    except (_Refused, re.error, OverflowError, RecursionError) as error:
        raise FilterError(f"error parsing regexp: {error}; write a Go (RE2) expression") from error


class _Translation:
    """A descent through Go's grammar that writes each part as it is understood.

    Flags are applied where they matter, letter by letter: ``(?i)`` may come anywhere in Go and
    holds until its group ends, and ``U`` swaps ``*`` and ``*?``; Python has neither.
    """

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._at = 0
        self._flags: frozenset[str] = frozenset()
        self._names: set[str] = set()

    def result(self) -> str:
        """The expression for Python's re."""
        translated = self._alternatives()
        if self._at < len(self._text):
            raise _Refused("unexpected )", self._text)
        return translated

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _alternatives(self) -> str:
        choices = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            choices.append(self._sequence())
        return "|".join(choices)

    def _sequence(self) -> str:
        parts: list[str] = []
        while (char := self._peek()) and char not in "|)":
            if self._repeat():
                raise _Refused("missing argument to repetition operator", char)
            atom = self._atom()
            if atom is None:
                # Go repeats what stands before the flags.
                if not parts:
                    continue
                atom = f"(?:{parts.pop()})"
            repeat = self._repeat()
            parts.append(atom + (repeat or ""))
            start = self._at
            if repeat and self._repeat() is not None:
                raise _Refused("invalid nested repetition operator", self._text[start : self._at])
        return "".join(parts)

    def _repeat(self) -> str | None:
        """A repetition here, in Python's words; None, and nothing taken, where there is none."""
        found = self._take(_REPEAT)
        if not found:
            return None
        operator, low, comma, high, lazy = found.groups()
        if low is not None:
            # Python converts no more than 4,300 digits; five are too many already.
            least, most = (int(digits.lstrip("0")[:5] or "0") for digits in (low, high or low))
            if max(least, most) > _MAX_REPEAT or most < least:
                raise _Refused("invalid repeat count", operator)
            operator = f"{{{low},{high}}}" if comma else f"{{{low}}}"
        return operator + ("?" if bool(lazy) != ("U" in self._flags) else "")

    def _atom(self) -> str | None:
        """One thing that can be repeated; None for flags alone."""
        char = self._peek()
        if char == "(":
            return self._group()
        if char == "[":
            return self._with_case(self._class())
        if char == "\\":
            return self._escape()
        self._at += 1
        if char == ".":
            return "(?s:.)" if "s" in self._flags else "."
        if char in "^$":
            return self._anchor(char)
        return self._with_case(re.escape(char))

    def _with_case(self, piece: str) -> str:
        return f"(?i:{piece})" if "i" in self._flags else piece

    def _anchor(self, char: str) -> str:
        # In parentheses, because Python repeats no bare anchor; \\Z, because Python's $ also
        # matches before a last newline.
        if "m" in self._flags:
            return f"(?m:{char})"
        return r"(?:\A)" if char == "^" else r"(?:\Z)"

    def _group(self) -> str | None:
        outer = self._flags
        if flags := self._take(_FLAGS):
            on, off, end = flags.groups()
            self._flags = (outer | frozenset(on)) - frozenset(off or "")
            if end == ")":
                return None
        elif named := self._take(_NAMED):
            if named.group(1) in self._names:
                raise _Refused("duplicate capture group name", named.group(1))
            self._names.add(named.group(1))
        elif self._text.startswith("(?", self._at):
            raise _Refused("invalid or unsupported Perl syntax", self._text[self._at :][:3])
        else:
            self._at += 1
        inside = self._alternatives()
        if self._peek() != ")":
            raise _Refused("missing closing )", self._text)
        self._at += 1
        self._flags = outer
        return f"(?:{inside})"

    def _escape(self) -> str | None:
        if self._text.startswith(r"\Q", self._at):
            return self._quotation()
        letter = self._text[self._at + 1 : self._at + 2]
        if letter in _ASSERTIONS:
            self._at += 2
            return f"(?:{_ASSERTIONS[letter]})"
        body = self._named_class()
        return self._with_case(f"[{body}]" if body else character(self._code()))

    def _quotation(self) -> str | None:
        """``\\Q`` to ``\\E`` or the end: a repetition after it takes the last letter alone."""
        end = self._text.find(r"\E", self._at + 2)
        stop = len(self._text) if end < 0 else end
        quoted = self._text[self._at + 2 : stop]
        self._at = stop if end < 0 else stop + 2
        return "".join(self._with_case(re.escape(letter)) for letter in quoted) or None

    def _named_class(self) -> str | None:
        """The inside of a bracket for ``\\d``, ``\\pL``, ``[:alpha:]``; None for other text."""
        letter = self._text[self._at + 1 : self._at + 2]
        if self._peek() == "\\" and letter and letter in "dswDSW":
            self._at += 2
            body = PERL[letter.lower()]
            return body if letter.islower() else complement(body)
        start = self._at
        if found := self._take(_POSIX_NAME):
            table, negated, name = POSIX, bool(found.group(1)), found.group(2)
        elif found := self._take(_UNICODE_NAME):
            table, name = UNICODE, found.group(3) or found.group(4)
            negated = (found.group(1) == "P") != bool(found.group(2))
        else:
            return None
        if name not in table:
            raise _Refused("invalid character class range", self._text[start : self._at])
        body = table[name]
        if "i" in self._flags and body in ("A-Z", "a-z"):
            body = "A-Za-z"
        return complement(body) if negated else body

    def _code(self) -> int:
        """One character, escaped or not, as its code point."""
        char = self._peek()
        if char != "\\":
            self._at += 1
            return ord(char)
        if found := self._take(_HEX):
            code = int(found.group(1) or found.group(2), 16)
            if code > sys.maxunicode:
                raise _Refused("invalid escape sequence", found.group())
            return code
        if found := self._take(_OCTAL):
            return int(found.group(1), 8)
        letter = self._text[self._at + 1 : self._at + 2]
        if not letter:
            raise _Refused("trailing backslash at end of expression", "")
        if letter not in _CONTROL and (not letter.isascii() or letter.isalnum()):
            raise _Refused("invalid escape sequence", f"\\{letter}")
        self._at += 2
        return _CONTROL.get(letter, ord(letter))

    def _class(self) -> str:
        start = self._at
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        parts: list[str] = []
        while self._peek() != "]" or not parts:
            if not self._peek():
                raise _Refused("missing closing ]", self._text[start:])
            parts.append(self._named_class() or self._range())
        self._at += 1
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _range(self) -> str:
        start = self._at
        low = high = self._code()
        rest = self._text[self._at : self._at + 2]
        if len(rest) == 2 and rest[0] == "-" and rest[1] != "]":
            self._at += 1
            high = self._code()
        if high < low:
            raise _Refused("invalid character class range", self._text[start : self._at])
        return character(low) if low == high else f"{character(low)}-{character(high)}"
