"""Go's named character classes, each as the inside of a bracket for Python's re.

From regexp/syntax: perl_groups.go; Unicode classes as far as they meet ASCII, since kernel names
are ASCII.
"""

from __future__ import annotations

import re
from functools import cache

_WORD = "0-9A-Za-z_"
POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": _WORD,
    "xdigit": "0-9A-Fa-f",
}
# RE2's \s has no vertical tab.
PERL = {"d": "0-9", "s": r"\t\n\f\r ", "w": _WORD}
UNICODE = {
    "L": "A-Za-z",
    "Lu": "A-Z",
    "Ll": "a-z",
    "N": "0-9",
    "Nd": "0-9",
    "P": r"!-#%-*,-/:;?@\[-\]_{}",
    "Pc": "_",
    "Latin": "A-Za-z",
}


@cache
def complement(body: str) -> str:
    """The inside of a bracket that matches all that ``[body]`` does not."""
    inside = re.compile(f"[{body}]")
    others = [code for code in range(128) if not inside.match(chr(code))]
    return "".join(map(character, others)) + r"\x80-\U0010ffff"


def character(code: int) -> str:
    """One code point as Python's re spells it, inside brackets or out."""
    return f"\\U{code:08x}"
