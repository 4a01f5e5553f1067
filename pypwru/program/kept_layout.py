"""Layouts of structs that are kept for the next start: a warm one asks no BTF for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pypwru.cache import package_digest
from pypwru.program.source import source_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache

Layout = TypeVar("Layout")
_CODE = ("btf", "kernel", "program")  # what makes a layout of types


def kept_layout(btf: BTF, cache: Cache, make: Callable[[], Layout], *of: str) -> Layout:
    """What ``make`` gives, or gave before for the same types, C and code.

    Args:
        btf: of vmlinux.
        make: asks it for members; gives what JSON can hold.
        of: whatever else the layout depends on.
    """
    key = package_digest(_CODE, btf.identity, source_digest().decode(), *of)
    return cache.remembered(f"layout-{key}", make)
