"""Decoder of the enumerators of BTF_KIND_ENUM and BTF_KIND_ENUM64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.index import VLEN_MASK
from pypwru.btf.types import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def enumerators(words: Sequence[int], at: int, string: Callable[[int], str]) -> dict[str, int]:
    """Return name -> value of one enum.

    Values are signed if kind_flag is set. pahole sets it since version 1.24 (2022): the negative
    enumerators of an older kernel read as unsigned here, as in bpftool.

    Args:
        words: type section that holds the record.
        at: index of the record's first word.
        string: returns the name at an offset of the string section.
    """
    info = words[at + 1]
    is_enum64 = info >> 24 & 0x7F == Kind.ENUM64
    bits, stride = (64, 3) if is_enum64 else (32, 2)
    tail = words[at + 3 : at + 3 + stride * (info & VLEN_MASK)]
    values = {}
    for index in range(0, len(tail), stride):
        value = tail[index + 1] | (tail[index + 2] << 32 if is_enum64 else 0)
        if info >> 31 and value >> (bits - 1):
            value -= 1 << bits
        values[string(tail[index])] = value
    return values
