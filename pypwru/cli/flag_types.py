"""Types of flag values: each has a type name for --help and a parser.

A parser raises ValueError, in Go's wording where Go has the same error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pypwru.config import CAPTURE_KEYWORDS, MarkFilter
from pypwru.errors import FilterError
from pypwru.go_values import go_quote, parse_bool, parse_csv, parse_int, parse_uint, parse_uint_base
from pypwru.kernel.netfilter import FAMILIES, REJECT, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

_MAX_UINT64 = (1 << 64) - 1
_SUFFIXES = {"k": 10, "m": 20, "g": 30}
# BPF_MAP_CREATE takes max_entries as a u32, and a ring buffer's must be a power of two and a
# multiple of the page size.
_MIN_RING_SIZE, _MAX_RING_SIZE = 1 << 12, 1 << 31
# A keyword, a function as it is printed (``nft_do_chain``, ``br_forward[bridge]``) or a tracepoint.
_CAPTURE_POINT = re.compile(r"(?:tp:)?[\w.]+(?:\[[\w-]+\])?")


class FlagType(NamedTuple):
    """The type of a flag's value.

    Args:
        type_name: pflag's name of the type, after the flag in ``--help``; empty for a boolean.
        parse: parse the text; raises ValueError if it is invalid.
        python: what it parses to, as an annotation of Config.
        keyword: what a script may give, as an annotation of TraceOptions; empty for ``python``.
        choices: the valid values, if they are a fixed set; else empty.
    """

    type_name: str
    parse: Callable[[str], object]
    python: str
    keyword: str = ""
    choices: tuple[str, ...] = ()


def choice(enum: type[Enum]) -> FlagType:
    """Return the type of a flag that takes the value of a member of ``enum`` and parses to it."""
    names = tuple(str(member.value) for member in enum)

    def parse(text: str) -> Enum:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return enum(text)

    name = enum.__name__
    return FlagType("string", parse, name, f"{name} | str", names)


def bool_or_choice(enum: type[Enum]) -> FlagType:
    """Return the type of a boolean flag with further values.

    Args:
        enum: has a member for "true", for "false" and for each further value; the flag parses to
            the member.
    """
    choice_type = choice(enum)

    def parse(text: str) -> object:
        try:
            return enum(str(parse_bool(text)).lower())
        except ValueError:
            return choice_type.parse(text)

    name = enum.__name__
    return FlagType("", parse, name, f"{name} | bool | str", choice_type.choices)


def unsigned(
    minimum: int = 0, maximum: int = _MAX_UINT64, bits: int = 64, clamp_to: int = 0
) -> FlagType:
    """Return the type of an unsigned number, with the prefixes of Go's literals.

    Args:
        minimum: minimum.
        maximum: maximum.
        bits: 64, or the width in the type's name.
        clamp_to: a smaller number is silently raised to this one.
    """

    def parse(text: str) -> int:
        return max(_check_range(parse_uint(text, bits), minimum, maximum), clamp_to)

    return FlagType("uint" if bits == 64 else f"uint{bits}", parse, "int")


def signed(minimum: int) -> FlagType:
    """Return the type of a Go ``int`` that is at least ``minimum``."""
    return FlagType(
        "int", lambda text: _check_range(parse_int(text, 64), minimum, _MAX_UINT64), "int"
    )


def _check_range(value: int, minimum: int, maximum: int) -> int:
    if not minimum <= value <= maximum:
        bounds = f"at least {minimum}" if maximum == _MAX_UINT64 else f"{minimum} to {maximum}"
        raise ValueError(f"must be {bounds}")
    return value


def _parse_mark(text: str) -> MarkFilter:
    """Parse ``mark[/mask]``, each decimal or with 0x hexadecimal; the default mask is all ones."""
    parts = text.split("/")
    if len(parts) > 2:
        raise ValueError(f"invalid mark value {go_quote(text)}: expected mark[/mask]")
    numbers = []
    for part_name, part in zip(("mark", "mask"), parts, strict=False):
        digits, base = (part[2:], 16) if part[:2] in {"0x", "0X"} else (part, 10)
        try:
            numbers.append(parse_uint_base(digits, base, 32))
        except ValueError as error:
            raise ValueError(f"invalid {part_name} value: {error}") from error
    mask = numbers[1] if len(numbers) > 1 else 0xFFFFFFFF
    return MarkFilter(numbers[0] & mask, mask)


def _parse_ring_size(text: str) -> int:
    shift = _SUFFIXES.get(text[-1:].lower(), 0)
    size = parse_uint(text[:-1] if shift else text, 64) << shift
    if not _MIN_RING_SIZE <= size <= _MAX_RING_SIZE or size & (size - 1):
        raise ValueError("must be a power of two, 4096 to 2G, such as 64k or 16M")
    return size


def _parse_rate(text: str) -> int:
    """Parse ``1000`` or ``1000/s``."""
    try:
        return parse_uint(text.removesuffix("/s"), 32)
    except ValueError as error:
        raise ValueError(f"{error}: take a number a second, such as 1000 or 1000/s") from error


def _parse_verdicts(text: str) -> tuple[str, ...]:
    verdicts = parse_csv(text)
    valid = (*VERDICTS.values(), REJECT)
    for verdict in verdicts:
        if verdict not in valid:
            from pypwru.suggestions import did_you_mean

            suggestion = did_you_mean(verdict, valid)
            raise ValueError(f"no verdict {go_quote(verdict)}: take {', '.join(valid)}{suggestion}")
    return verdicts


def _parse_tables(text: str) -> tuple[str, ...]:
    tables = parse_csv(text)
    for table in tables:
        family, space, name = table.rpartition(" ")
        if not name or (space and family not in FAMILIES.values()):
            raise ValueError(
                f"no table {go_quote(table)}: give its name, or family and name, such as "
                f"'inet filter'; families are {', '.join(FAMILIES.values())}"
            )
    return tables


def _parse_chains(text: str) -> tuple[str, ...]:
    chains = parse_csv(text)
    families = "|".join(FAMILIES.values())
    for chain in chains:
        if not re.fullmatch(rf"\S+|({families}) \S+ \S+( -> \S+)*", chain):
            raise ValueError(
                f"no chain {go_quote(chain)}: give its name, such as input, or the full text of "
                "the column NFT-CHAIN, such as 'inet filter input' or 'inet filter input -> web'"
            )
    return chains


def _parse_capture_points(text: str) -> tuple[str, ...]:
    points = parse_csv(text)
    for point in points:
        if not _CAPTURE_POINT.fullmatch(point):
            raise ValueError(
                f"no event {go_quote(point)}: "
                "take first, last, drop, every, or the name of a function"
            )
        if point not in CAPTURE_KEYWORDS and "_" not in point:
            from pypwru.suggestions import did_you_mean

            if suggestion := did_you_mean(point, CAPTURE_KEYWORDS, 0.75):
                raise ValueError(f"no function {go_quote(point)}{suggestion}")
    return points


def _parse_regex(text: str) -> str:
    if text:
        from pypwru.regexp.re2 import compile_search

        try:
            compile_search(text)
        except FilterError as error:
            raise ValueError(f"{error}, such as 'dport (22|443) '") from error
    return text


_TUPLE, _WORDS = "tuple[str, ...]", "Words"
BOOL = FlagType("", parse_bool, "bool")
STRING = FlagType("string", str, "str")
STRINGS = FlagType("strings", parse_csv, _TUPLE, _WORDS)
PATH = FlagType("string", lambda text: Path(text) if text else None, "Path | None", "File | None")
NFT_VERDICTS = FlagType("strings", _parse_verdicts, _TUPLE, _WORDS)
NFT_TABLES = FlagType("strings", _parse_tables, _TUPLE, _WORDS)
CAPTURE_POINTS = FlagType("strings", _parse_capture_points, _TUPLE, _WORDS)
NFT_CHAINS = FlagType("strings", _parse_chains, _TUPLE, _WORDS)
REGEX = FlagType("string", _parse_regex, "str")
RATE = FlagType("uint32", _parse_rate, "int", "int | str")
RING_SIZE = FlagType("size", _parse_ring_size, "int", "int | str")
MARK = FlagType("mark[/mask]", _parse_mark, "MarkFilter", "int | str | tuple[int, int]")
