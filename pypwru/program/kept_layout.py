"""Cache of struct layouts: a warm start computes none from BTF."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pypwru.cache import package_digest
from pypwru.program.source import source_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache

Layout = TypeVar("Layout")
_CODE = ("btf", "kernel", "program")  # subpackages whose code determines a layout


def kept_layout(btf: BTF, cache: Cache, make: Callable[[], Layout], *of: str) -> Layout:
    """Return the result of ``make``, from the cache if types, C and code are the same.

    Args:
        btf: of vmlinux.
        cache: of earlier results; the result is added.
        make: computes the layout from ``btf``; its result must be JSON.
        of: everything else that the layout depends on.

    Raises:
        BTFError: from ``make``.
    """
    key = package_digest(_CODE, btf.identity, source_digest().decode(), *of)
    return cache.remembered(f"layout-{key}", make)
