"""Pass 1: the lexer. An expression's text to tokens."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.expr.position import Position


class TokenKind(Enum):
    """The kind of a token; SIGN is C's punctuator (C11, 6.4.6)."""

    NAME = "name"
    NUMBER = "number"
    CHARACTER = "character"
    STRING = "string"
    PUNCTUATOR = "punctuator"
    END = "end"


class Token(NamedTuple):
    """A token with its text as typed; the text of END is empty."""

    kind: TokenKind
    text: str
    position: Position


# A number includes all letters and dots that follow it, so an error can quote it whole.
_TOKEN = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_.]*)
    | (?P<character>'(?:\\.|[^'\\])*')
    | (?P<string>"(?:\\.|[^"\\])*")
    | (?P<punctuator>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>=().\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANKS = re.compile(r"[ \t\n\r\f\v]*")


def tokenize(source: Position) -> list[Token]:
    """Return the tokens of ``source``; the last one is END.

    Raises:
        FilterError: a character that begins no token, or an unterminated quote.
    """
    text = source.text
    found = []
    offset = _skip_blanks(text, 0)
    while offset < len(text):
        position = source._replace(column=offset + 1)
        match = _TOKEN.match(text, offset)
        if match is None:
            raise position.error(_unexpected(text[offset]))
        assert match.lastgroup
        found.append(Token(TokenKind(match.lastgroup), match[0], position))
        offset = _skip_blanks(text, match.end())
    return [*found, Token(TokenKind.END, "", source._replace(column=len(text) + 1))]


def _skip_blanks(text: str, offset: int) -> int:
    match = _BLANKS.match(text, offset)
    return match.end() if match else offset


def _unexpected(character: str) -> str:
    if character in "'\"":
        return f"the quote {character} does not end"
    return f"unexpected character '{character}'"
