"""Handles of tables and chains to their names, as the handlers saw them in the kernel."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from pypwru.kernel import bpf
from pypwru.resolve.ruleset import name_text

if TYPE_CHECKING:
    from collections.abc import Callable

# struct nft_key and nft_names of bpf/event.h
KEY = struct.Struct("=QQI4x")
NAMES = struct.Struct("256s256s")
_KEPT = 1 << 14
_UNKNOWN = ("", "")

Names = tuple[str, str]


class NftNames:
    """Names of tables and chains.

    Each name of a chain has its own entry, but memory is given again, and so are inodes of
    namespaces: the map is asked each time, and what it had is kept for when it has thrown that out.

    Args:
        fd: of the map ``nft_names``.
        lookup: from descriptor, key and size of the value to the value; FileNotFoundError for none.
    """

    def __init__(
        self, fd: int, lookup: Callable[[int, bytes, int], bytes] = bpf.map_lookup
    ) -> None:
        self._lookup = partial(lookup, fd)
        self._seen: dict[bytes, Names] = {}

    def names(self, netns: int, table: int, chain: int) -> Names:
        """Names of a table and a chain; empty where nobody has told them.

        Args:
            netns: inode.
            table: handle.
            chain: as of ``struct part_nft``; 0 for the table alone.
        """
        key = KEY.pack(table, chain, netns)
        try:
            found = NAMES.unpack(self._lookup(key, NAMES.size))
        except FileNotFoundError:
            return self._seen.get(key, _UNKNOWN)
        if len(self._seen) >= _KEPT:
            self._seen.clear()
        said = self._seen[key] = (_name(found[0]), _name(found[1]))
        return said


def _name(octets: bytes) -> str:
    return name_text(octets.split(b"\0", 1)[0])
