"""Go's named character classes, each as the content of a bracket expression of Python's re.

From perl_groups.go of Go's regexp/syntax. Of Unicode classes only the ASCII part is here, since
kernel names are ASCII.
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
    """Return the bracket content that matches every character that ``[body]`` doesn't."""
    inside = re.compile(f"[{body}]")
    others = [code for code in range(128) if not inside.match(chr(code))]
    return "".join(map(character, others)) + r"\x80-\U0010ffff"


def character(code: int) -> str:
    """Return one code point as a Python re escape, valid inside and outside of brackets."""
    return f"\\U{code:08x}"
