"""Pass 1: an expression's text to words."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.expression.source import Mark


class Word(Enum):
    """What kind of word a token is."""

    NAME = "name"
    NUMBER = "number"
    CHARACTER = "character"
    STRING = "string"
    SIGN = "sign"
    END = "end"


class Token(NamedTuple):
    """``text`` as typed; of the end it is ''."""

    kind: Word
    text: str
    mark: Mark


# A number takes every letter and dot behind it, so that what is wrong in it is shown whole.
_WORDS = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_.]*)
    | (?P<character>'(?:\\.|[^'\\])*')
    | (?P<string>"(?:\\.|[^"\\])*")
    | (?P<sign>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>=().\[\]])
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANKS = re.compile(r"[ \t\n\r\f\v]*")


def tokens(source: Mark) -> list[Token]:
    """The words of ``source``, the last one the END.

    Raises:
        FilterError: a character that begins no word, or a quote that doesn't end.
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
