"""Pass 1: the lexer. An expression's text to tokens."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.expression.source import Mark


class Word(Enum):
    """The kind of a token; SIGN is C's punctuator (C11, 6.4.6)."""

    NAME = "name"
    NUMBER = "number"
    CHARACTER = "character"
    STRING = "string"
    SIGN = "punctuator"
    END = "end"


class Token(NamedTuple):
    """A token with its text as typed; the text of END is empty."""

    kind: Word
    text: str
    mark: Mark


# A number includes all letters and dots that follow it, so an error can quote it whole.
_WORDS = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_.]*)
    | (?P<character>'(?:\\.|[^'\\])*')
    | (?P<string>"(?:\\.|[^"\\])*")
    | (?P<punctuator>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>=().\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANKS = re.compile(r"[ \t\n\r\f\v]*")


def tokens(source: Mark) -> list[Token]:
    """Return the tokens of ``source``; the last one is END.

    Raises:
        FilterError: a character that begins no token, or an unterminated quote.
    """
    text = source.text
    found = []
    at = _skip(text, 0)
    while at < len(text):
        mark = source._replace(column=at + 1)
        match = _WORDS.match(text, at)
        if match is None:
            raise mark.error(_unexpected(text[at]))
        assert match.lastgroup
        found.append(Token(Word(match.lastgroup), match[0], mark))
        at = _skip(text, match.end())
    return [*found, Token(Word.END, "", source._replace(column=len(text) + 1))]


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _unexpected(character: str) -> str:
    if character in "'\"":
        return f"the quote {character} does not end"
    return f"unexpected character '{character}'"
