"""Names of nftables tables and chains by handle, which the handlers read from the kernel."""

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
    """Names of tables and chains, from the BPF map ``nft_names``.

    A renamed chain gets a key of its own, but the kernel reuses memory and inodes of namespaces.
    So each look-up reads the map. The last answer is used only after the map (an LRU) has evicted
    the key.

    Args:
        fd: descriptor of the map; not owned.
        lookup: (descriptor, key, size of the value) -> value; raises FileNotFoundError without one.
    """

    def __init__(
        self, fd: int, lookup: Callable[[int, bytes, int], bytes] = bpf.map_lookup
    ) -> None:
        self._lookup = partial(lookup, fd)
        self._seen: dict[bytes, Names] = {}

    def names(self, netns: int, table: int, chain: int) -> Names:
        """Return the names of a table and a chain; "" for those that no handler stored.

        Args:
            netns: inode of the network namespace.
            table: handle; of iptables-legacy the address of its ``struct xt_table``.
            chain: ``chain`` of ``struct part_nft``; 0 for the table alone.
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
