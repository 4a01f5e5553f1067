"""Types of flag values: each has a type name for --help and a parser.

A parser raises ValueError, in Go's wording where Go has the same error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import CAPTURE_WORDS, Mark
from pypwru.errors import FilterError
from pypwru.gotext import parse_bool, parse_csv, parse_digits, parse_int, parse_uint, quote
from pypwru.kernel.nft_words import FAMILIES, REJECT, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

_LARGEST = (1 << 64) - 1
_SUFFIXES = {"k": 10, "m": 20, "g": 30}
# BPF_MAP_CREATE takes max_entries as a u32, and a ring buffer's must be a power of two and a
# multiple of the page size.
_SMALLEST_RING, _LARGEST_RING = 1 << 12, 1 << 31
# A keyword, a function as it is printed (``nft_do_chain``, ``br_forward[bridge]``) or a tracepoint.
_SIGHT = re.compile(r"(?:tp:)?[\w.]+(?:\[[\w-]+\])?")


class Kind(NamedTuple):
    """The type of a flag's value.

    Args:
        word: pflag's name of the type, after the flag in ``--help``; empty for a boolean.
        read: parse the text; raises ValueError if it is invalid.
        choices: the valid values, if they are a fixed set; else empty.
    """

    word: str
    read: Callable[[str], object]
    choices: tuple[str, ...] = ()


def one_of(words: type[Enum]) -> Kind:
    """Return the type of a flag that takes the value of a member of ``words`` and parses to it."""
    names = tuple(str(member.value) for member in words)

    def read(text: str) -> Enum:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return words(text)

    return Kind("string", read, names)


def switch_or(words: type[Enum]) -> Kind:
    """Return the type of a boolean flag with further values.

    Args:
        words: has a member for "true", for "false" and for each further value; the flag parses to
            the member.
    """
    named = one_of(words)

    def read(text: str) -> object:
        try:
            return words(str(parse_bool(text)).lower())
        except ValueError:
            return named.read(text)

    return Kind("", read, named.choices)


def unsigned(lowest: int = 0, highest: int = _LARGEST, bits: int = 64, raised: int = 0) -> Kind:
    """Return the type of an unsigned number, with the prefixes of Go's literals.

    Args:
        lowest: minimum.
        highest: maximum.
        bits: 64, or the width in the type's name.
        raised: a smaller number is silently raised to this one.
    """

    def read(text: str) -> int:
        return max(_between(parse_uint(text, bits), lowest, highest), raised)

    return Kind("uint" if bits == 64 else f"uint{bits}", read)


def signed(lowest: int) -> Kind:
    """Return the type of a Go ``int`` that is at least ``lowest``."""
    return Kind("int", lambda text: _between(parse_int(text, 64), lowest, _LARGEST))


def _between(value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        bounds = f"at least {lowest}" if highest == _LARGEST else f"{lowest} to {highest}"
        raise ValueError(f"must be {bounds}")
    return value


def _read_mark(text: str) -> Mark:
    """Parse ``mark[/mask]``, each decimal or with 0x hexadecimal; the default mask is all ones."""
    parts = text.split("/")
    if len(parts) > 2:
        raise ValueError(f"invalid mark value {quote(text)}: expected mark[/mask]")
    numbers = []
    for word, part in zip(("mark", "mask"), parts, strict=False):
        digits, base = (part[2:], 16) if part[:2] in {"0x", "0X"} else (part, 10)
        try:
            numbers.append(parse_digits(digits, base, 32))
        except ValueError as error:
            raise ValueError(f"invalid {word} value: {error}") from error
    mask = numbers[1] if len(numbers) > 1 else 0xFFFFFFFF
    return Mark(numbers[0] & mask, mask)


def _read_ring(text: str) -> int:
    shift = _SUFFIXES.get(text[-1:].lower(), 0)
    size = parse_uint(text[:-1] if shift else text, 64) << shift
    if not _SMALLEST_RING <= size <= _LARGEST_RING or size & (size - 1):
        raise ValueError("must be a power of two, 4096 to 2G, such as 64k or 16M")
    return size


def _read_rate(text: str) -> int:
    """Parse ``1000`` or ``1000/s``."""
    try:
        return parse_uint(text.removesuffix("/s"), 32)
    except ValueError as error:
        raise ValueError(f"{error}: take a number a second, such as 1000 or 1000/s") from error


def _read_verdicts(text: str) -> tuple[str, ...]:
    words = parse_csv(text)
    known = (*VERDICTS.values(), REJECT)
    for word in words:
        if word not in known:
            from pypwru.suggestions import did_you_mean

            meant = did_you_mean(word, known)
            raise ValueError(f"no verdict {quote(word)}: take {', '.join(known)}{meant}")
    return words


def _read_tables(text: str) -> tuple[str, ...]:
    words = parse_csv(text)
    for word in words:
        family, blank, name = word.rpartition(" ")
        if not name or (blank and family not in FAMILIES.values()):
            raise ValueError(
                f"no table {quote(word)}: give its name, or family and name, such as "
                f"'inet filter'; families are {', '.join(FAMILIES.values())}"
            )
    return words


def _read_chains(text: str) -> tuple[str, ...]:
    words = parse_csv(text)
    families = "|".join(FAMILIES.values())
    for word in words:
        if not re.fullmatch(rf"\S+|({families}) \S+ \S+( -> \S+)*", word):
            raise ValueError(
                f"no chain {quote(word)}: give its name, such as input, or the full text of the "
                "column NFT-CHAIN, such as 'inet filter input' or 'inet filter input -> web'"
            )
    return words


def _read_sights(text: str) -> tuple[str, ...]:
    words = parse_csv(text)
    for word in words:
        if not _SIGHT.fullmatch(word):
            raise ValueError(
                f"no event {quote(word)}: take first, last, drop, every, or the name of a function"
            )
        if word not in CAPTURE_WORDS and "_" not in word:
            from pypwru.suggestions import did_you_mean

            if meant := did_you_mean(word, CAPTURE_WORDS, 0.75):
                raise ValueError(f"no function {quote(word)}{meant}")
    return words


def _read_regex(text: str) -> str:
    if text:
        from pypwru.discovery.re2 import found_in

        try:
            found_in(text)
        except FilterError as error:
            raise ValueError(f"{error}, such as 'dport (22|443) '") from error
    return text


SWITCH = Kind("", parse_bool)
STRING = Kind("string", str)
STRINGS = Kind("strings", parse_csv)
PATH = Kind("string", lambda text: Path(text) if text else None)
NFT_VERDICTS = Kind("strings", _read_verdicts)
NFT_TABLES = Kind("strings", _read_tables)
SIGHTS = Kind("strings", _read_sights)
NFT_CHAINS = Kind("strings", _read_chains)
REGEX = Kind("string", _read_regex)
RATE = Kind("uint32", _read_rate)
RING = Kind("size", _read_ring)
MARK = Kind("mark[/mask]", _read_mark)
