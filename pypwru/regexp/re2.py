"""Go's regular expressions, for ``--filter-func`` and ``--filter-nft-text``.

pwru takes the syntax of Go's regexp/syntax and selects a function if the leftmost-first match is
the whole name (``FindString(name) == name``): ``tcp|tcp_v4_rcv`` does not select tcp_v4_rcv. The
parser here follows Go's grammar. ``machine.py`` runs the expression in time linear in the text, as
Go does, because other users write the rules that are matched. Kernel names are ASCII, and so are
the character classes.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from pypwru.errors import FilterError
from pypwru.regexp.classes import PERL, POSIX, UNICODE, character, complement
from pypwru.regexp.machine import (
    LINE_BEGIN,
    LINE_END,
    NOT_WORD_BOUNDARY,
    TEXT_BEGIN,
    TEXT_END,
    WORD_BOUNDARY,
    Alternation,
    Concatenation,
    Letter,
    Machine,
    Node,
    Repeat,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_REPEAT = 1000
_REPEAT = re.compile(r"([*+?]|\{(\d+)(?:(,)(\d*))?\})(\?)?", re.ASCII)
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED_GROUP = re.compile(r"\(\?P?<(\w+)>", re.ASCII)
_HEX = re.compile(r"\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})")
_OCTAL = re.compile(r"\\(0[0-7]{0,2}|[1-7][0-7]{1,2})")
_POSIX_NAME = re.compile(r"\[:(\^?)(\w+):\]")
_UNICODE_NAME = re.compile(r"\\([pP])(?:\{(\^?)(\w+)\}|(\w))")
_ASSERTIONS = {"A": TEXT_BEGIN, "z": TEXT_END, "b": WORD_BOUNDARY, "B": NOT_WORD_BOUNDARY}
_COUNTS: Mapping[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_CONTROL = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}


class _RegexpError(Exception):
    """A syntax error: Go's message, and the part of the expression that is invalid."""

    def __init__(self, message: str, part: str = "") -> None:
        super().__init__(f"{message}: `{part}`" if part else message)


def compile_whole_name(expression: str) -> Callable[[str], bool]:
    """Return the predicate that pwru applies to each function name.

    Args:
        expression: in the syntax of Go's regexp/syntax; '' matches every name.

    Raises:
        FilterError: Go would reject the expression, or it uses a Unicode class that is not in
            re2_classes.
    """
    if not expression:
        return lambda name: True
    try:
        return _compile(expression, anchored=True).matches
    except FilterError as error:
        raise FilterError(
            f"--filter-func {expression!r}: {error.cause}",
            f"{error.cure}, for example --filter-func '^ip_.*'",
        ) from error


def compile_search(expression: str) -> Callable[[str], bool]:
    """Return the predicate whether an expression matches anywhere in a text.

    Raises:
        FilterError: as ``compile_whole_name``, without the name of a flag.
    """
    return _compile(expression, anchored=False).matches


def _compile(expression: str, *, anchored: bool) -> Machine:
    try:
        return Machine(_Parser(expression).parse(), anchored=anchored)
    except (_RegexpError, TooLargeError, re.error, OverflowError, RecursionError) as error:
        raise FilterError(
            f"error parsing regexp: {error}", "write a Go (RE2) expression"
        ) from error


class _Parser:
    """A recursive descent parser of Go's grammar.

    Flags are applied to each character: ``(?i)`` may come anywhere and holds until its group ends,
    and ``U`` swaps ``*`` and ``*?``.
    """

    def __init__(self, expression: str) -> None:
        self._text = expression
        self._position = 0
        self._flags: frozenset[str] = frozenset()
        self._names: set[str] = set()

    def parse(self) -> Node:
        """Return the syntax tree of the whole expression."""
        parsed = self._alternatives()
        if self._position < len(self._text):
            raise _RegexpError("unexpected )", self._text)
        return parsed

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _consume(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._position)
        if found:
            self._position = found.end()
        return found

    def _alternatives(self) -> Node:
        choices = [self._sequence()]
        while self._peek() == "|":
            self._position += 1
            choices.append(self._sequence())
        return Alternation(choices)

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (char := self._peek()) and char not in "|)":
            if self._repeat():
                raise _RegexpError("missing argument to repetition operator", char)
            # Repeats apply to the last character of a quotation, or to the node before flags.
            parts += self._atoms()
            repeat = self._repeat() if parts else None
            if repeat:
                parts.append(Repeat(parts.pop(), *repeat))
            start = self._position
            if repeat and self._repeat() is not None:
                raise _RegexpError(
                    "invalid nested repetition operator", self._text[start : self._position]
                )
        return Concatenation(parts)

    def _repeat(self) -> tuple[int, int | None, bool] | None:
        """Return minimum, maximum (None: unbounded) and laziness of a repetition operator.

        None, and nothing is consumed, if there is no operator here.
        """
        found = self._consume(_REPEAT)
        if not found:
            return None
        operator, low, comma, high, lazy = found.groups()
        if low is None:
            min_count, max_count = _COUNTS[operator]
        else:
            # Python converts no more than 4,300 digits; five are too many already.
            min_count, max_count = (
                int(digits.lstrip("0")[:5] or "0") for digits in (low, high or low)
            )
            if max(min_count, max_count) > _MAX_REPEAT or max_count < min_count:
                raise _RegexpError("invalid repeat count", operator)
            if comma and not high:
                max_count = None
        return min_count, max_count, bool(lazy) != ("U" in self._flags)

    def _atoms(self) -> list[Node]:
        """Return one node that can be repeated, or those of a quotation; none for flags alone."""
        char = self._peek()
        if char == "(":
            return self._group()
        if char == "[":
            return [self._make_letter(self._bracket())]
        if char == "\\":
            return self._escape()
        self._position += 1
        if char == ".":
            return [Letter("(?s:.)" if "s" in self._flags else ".")]
        if char in "^$":
            whole, line = (TEXT_BEGIN, LINE_BEGIN) if char == "^" else (TEXT_END, LINE_END)
            return [line if "m" in self._flags else whole]
        return [self._make_letter(re.escape(char))]

    def _make_letter(self, piece: str) -> Letter:
        return Letter(f"(?i:{piece})" if "i" in self._flags else piece)

    def _group(self) -> list[Node]:
        outer = self._flags
        if flags := self._consume(_FLAGS):
            on, off, end = flags.groups()
            self._flags = (outer | frozenset(on)) - frozenset(off or "")
            if end == ")":
                return []
        elif named := self._consume(_NAMED_GROUP):
            if named.group(1) in self._names:
                raise _RegexpError("duplicate capture group name", named.group(1))
            self._names.add(named.group(1))
        elif self._text.startswith("(?", self._position):
            raise _RegexpError(
                "invalid or unsupported Perl syntax", self._text[self._position :][:3]
            )
        else:
            self._position += 1
        inside = self._alternatives()
        if self._peek() != ")":
            raise _RegexpError("missing closing )", self._text)
        self._position += 1
        self._flags = outer
        return [inside]

    def _escape(self) -> list[Node]:
        if self._text.startswith(r"\Q", self._position):
            return self._quotation()
        letter = self._text[self._position + 1 : self._position + 2]
        if letter in _ASSERTIONS:
            self._position += 2
            return [_ASSERTIONS[letter]]
        body = self._named_class()
        return [self._make_letter(f"[{body}]" if body else character(self._code_point()))]

    def _quotation(self) -> list[Node]:
        r"""Parse ``\Q`` to ``\E`` or the end: a repetition applies to its last character."""
        end = self._text.find(r"\E", self._position + 2)
        stop = len(self._text) if end < 0 else end
        quoted = self._text[self._position + 2 : stop]
        self._position = stop if end < 0 else stop + 2
        return [self._make_letter(re.escape(letter)) for letter in quoted]

    def _named_class(self) -> str | None:
        r"""Return the bracket content for ``\d``, ``\pL``, ``[:alpha:]``; None for other text."""
        letter = self._text[self._position + 1 : self._position + 2]
        if self._peek() == "\\" and letter and letter in "dswDSW":
            self._position += 2
            body = PERL[letter.lower()]
            return body if letter.islower() else complement(body)
        start = self._position
        if found := self._consume(_POSIX_NAME):
            table, negated, name = POSIX, bool(found.group(1)), found.group(2)
        elif found := self._consume(_UNICODE_NAME):
            table, name = UNICODE, found.group(3) or found.group(4)
            negated = (found.group(1) == "P") != bool(found.group(2))
        else:
            return None
        if name not in table:
            raise _RegexpError("invalid character class range", self._text[start : self._position])
        body = table[name]
        if "i" in self._flags and body in ("A-Z", "a-z"):
            body = "A-Za-z"
        return complement(body) if negated else body

    def _code_point(self) -> int:
        """Return the code point of one character, escaped or not."""
        char = self._peek()
        if char != "\\":
            self._position += 1
            return ord(char)
        if found := self._consume(_HEX):
            code = int(found.group(1) or found.group(2), 16)
            if code > sys.maxunicode:
                raise _RegexpError("invalid escape sequence", found.group())
            return code
        if found := self._consume(_OCTAL):
            return int(found.group(1), 8)
        letter = self._text[self._position + 1 : self._position + 2]
        if not letter:
            raise _RegexpError("trailing backslash at end of expression", "")
        if letter not in _CONTROL and (not letter.isascii() or letter.isalnum()):
            raise _RegexpError("invalid escape sequence", f"\\{letter}")
        self._position += 2
        return _CONTROL.get(letter, ord(letter))

    def _bracket(self) -> str:
        start = self._position
        self._position += 1
        negated = self._peek() == "^"
        self._position += negated
        parts: list[str] = []
        while self._peek() != "]" or not parts:
            if not self._peek():
                raise _RegexpError("missing closing ]", self._text[start:])
            parts.append(self._named_class() or self._range())
        self._position += 1
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _range(self) -> str:
        start = self._position
        low = high = self._code_point()
        rest = self._text[self._position : self._position + 2]
        if len(rest) == 2 and rest[0] == "-" and rest[1] != "]":
            self._position += 1
            high = self._code_point()
        if high < low:
            raise _RegexpError("invalid character class range", self._text[start : self._position])
        return character(low) if low == high else f"{character(low)}-{character(high)}"
