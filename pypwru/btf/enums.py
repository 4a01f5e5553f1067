"""Values of BTF_KIND_ENUM and BTF_KIND_ENUM64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.index import VLEN
from pypwru.btf.types import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def enumerators(words: Sequence[int], at: int, string: Callable[[int], str]) -> dict[str, int]:
    """Name to value of the enum whose record begins at ``words[at]``.

    Values are signed if kind_flag says so. pahole set it from version 1.24 (2022) on: an older
    kernel's negative enumerators read as unsigned here, as in bpftool.

    Args:
        string: gives the name at a string offset.
    """
    info = words[at + 1]
    wide = info >> 24 & 0x7F == Kind.ENUM64
    bits, stride = (64, 3) if wide else (32, 2)
    tail = words[at + 3 : at + 3 + stride * (info & VLEN)]
    values = {}
    for place in range(0, len(tail), stride):
        value = tail[place + 1] | (tail[place + 2] << 32 if wide else 0)
        if info >> 31 and value >> (bits - 1):
            value -= 1 << bits
        values[string(tail[place])] = value
    return values
