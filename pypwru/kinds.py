"""The types that a flag's value can have: each a word for the help and a reader of the text.

A reader raises ValueError and says what is wrong with the text, in Go's words where Go has any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pypwru.gotext import parse_bool, parse_csv, parse_uint

_LARGEST = (1 << 64) - 1
_SUFFIXES = {"k": 10, "m": 20, "g": 30}
# bpf_map_create takes max_entries as a u32, and a ring must be a power of two of whole pages.
_SMALLEST_RING, _LARGEST_RING = 1 << 12, 1 << 31


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value.

    Args:
        word: what stands after the flag in ``--help``; empty for a switch.
        read: text to value; a ValueError says what is wrong with the text.
        choices: the only words there are, where the set is closed.
    """

    word: str
    read: Callable[[str], object]
    choices: tuple[str, ...] = ()


def one_of(words: type[Enum]) -> Kind:
    """One of the values of ``words``; reads to the member."""
    names = tuple(str(member.value) for member in words)

    def read(text: str) -> Enum:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return words(text)

    return Kind("string", read, names)


def unsigned(lowest: int = 0, highest: int = _LARGEST) -> Kind:
    """A number in any base of Go, ``lowest`` to ``highest``."""

    def read(text: str) -> int:
        value = parse_uint(text, 64)
        if not lowest <= value <= highest:
            bounds = f"at least {lowest}" if highest == _LARGEST else f"{lowest} to {highest}"
            raise ValueError(f"must be {bounds}")
        return value

    return Kind("uint", read)


def _read_ring(text: str) -> int:
    shift = _SUFFIXES.get(text[-1:].lower(), 0)
    size = parse_uint(text[:-1] if shift else text, 64) << shift
    if not _SMALLEST_RING <= size <= _LARGEST_RING or size & (size - 1):
        raise ValueError("must be a power of two, 4096 to 2G, such as 64k or 16M")
    return size


SWITCH = Kind("", parse_bool)
STRING = Kind("string", str)
STRINGS = Kind("strings", parse_csv)
PATH = Kind("file", lambda text: Path(text) if text else None)
RING = Kind("size", _read_ring)
