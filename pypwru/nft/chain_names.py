"""Names of nftables tables and chains by handle, which the handlers read from the kernel."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from pypwru.kernel import bpf
from pypwru.nft.ruleset import decode_name

if TYPE_CHECKING:
    from collections.abc import Callable

# struct nft_key and nft_names of bpf/event.h
KEY_STRUCT = struct.Struct("=QQI4x")
NAMES_STRUCT = struct.Struct("256s256s")
_MAX_CACHED = 1 << 14
_UNKNOWN = ("", "")

TableChainNames = tuple[str, str]


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
        self._cache: dict[bytes, TableChainNames] = {}

    def resolve(self, netns: int, table: int, chain: int) -> TableChainNames:
        """Return the names of a table and a chain; "" for those that no handler stored.

        Args:
            netns: inode of the network namespace.
            table: handle; of iptables-legacy the address of its ``struct xt_table``.
            chain: ``chain`` of ``struct part_nft``; 0 for the table alone.
        """
        key = KEY_STRUCT.pack(table, chain, netns)
        try:
            found = NAMES_STRUCT.unpack(self._lookup(key, NAMES_STRUCT.size))
        except FileNotFoundError:
            return self._cache.get(key, _UNKNOWN)
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        resolved = self._cache[key] = (_decode_name(found[0]), _decode_name(found[1]))
        return resolved


def _decode_name(data: bytes) -> str:
    return decode_name(data.split(b"\0", 1)[0])
