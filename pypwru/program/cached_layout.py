"""Cache of struct layouts: a warm start computes none from BTF."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pypwru.bpf_sources import source_digest
from pypwru.cache import package_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.btf.query import BTF
    from pypwru.cache import Cache

Layout = TypeVar("Layout")
_LAYOUT_PACKAGES = ("btf", "kernel", "nft", "program")  # subpackages whose code determines a layout


def cached_layout(btf: BTF, cache: Cache, compute: Callable[[], Layout], *key_parts: str) -> Layout:
    """Return the result of ``compute``, from the cache if types, C and code are the same.

    Args:
        btf: of vmlinux.
        cache: of earlier results; the result is added.
        compute: computes the layout from ``btf``; its result must be JSON.
        key_parts: everything else that the layout depends on.

    Raises:
        BTFError: from ``compute``.
    """
    key = package_digest(_LAYOUT_PACKAGES, btf.identity, source_digest().decode(), *key_parts)
    return cache.get_or_make(f"layout-{key}", compute)
