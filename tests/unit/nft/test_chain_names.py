"""Names of tables and chains, from the map that the handlers fill."""

from __future__ import annotations

import pytest

from pypwru.nft import chain_names
from pypwru.nft.chain_names import KEY_STRUCT, NAMES_STRUCT, NftNames


class FakeMap:
    """A fake BPF map with descriptor 5."""

    def __init__(self, *entries: tuple[tuple[int, int, int], bytes, bytes]) -> None:
        self.entries = {
            KEY_STRUCT.pack(table, chain, netns): NAMES_STRUCT.pack(table_name, chain_name)
            for (table, chain, netns), table_name, chain_name in entries
        }

    def lookup(self, fd: int, key: bytes, size: int) -> bytes:
        assert (fd, size) == (5, NAMES_STRUCT.size)
        try:
            return self.entries[key]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None


def test_names_by_namespace() -> None:
    bpf_map = FakeMap(((7, 1, 99), b"filter", b"input"), ((7, 1, 98), b"nat", b"out"))
    names = NftNames(5, bpf_map.lookup)
    assert names.resolve(99, 7, 1) == ("filter", "input")
    assert names.resolve(98, 7, 1) == ("nat", "out")
    assert names.resolve(97, 7, 1) == ("", "")


def test_table_without_chain() -> None:
    address = 0xFFFF888012345678
    assert NftNames(5, FakeMap(((address, 0, 99), b"mangle", b"")).lookup).resolve(
        99, address, 0
    ) == (
        "mangle",
        "",
    )


def test_names_end_at_nul_and_are_escaped() -> None:
    bpf_map = FakeMap(((7, 1, 9), b"filter\0stale", b"\x1b[31m\xff"))
    assert NftNames(5, bpf_map.lookup).resolve(9, 7, 1) == ("filter", "\\u001b[31m\\xff")


def test_reused_address_has_its_new_name() -> None:
    bpf_map = FakeMap(((7, 1, 9), b"filter", b"old"))
    names = NftNames(5, bpf_map.lookup)
    assert names.resolve(9, 7, 1)[1] == "old"
    bpf_map.entries = FakeMap(((7, 1, 9), b"filter", b"new")).entries
    assert names.resolve(9, 7, 1)[1] == "new"


def test_evicted_names_are_cached() -> None:
    bpf_map = FakeMap(((7, 1, 9), b"filter", b"input"))
    names = NftNames(5, bpf_map.lookup)
    assert names.resolve(9, 7, 1) == ("filter", "input")
    bpf_map.entries.clear()
    assert names.resolve(9, 7, 1) == ("filter", "input")


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_names, "_MAX_CACHED", 8)
    bpf_map = FakeMap(*(((7, chain, 9), b"t", b"c%d" % chain) for chain in range(100)))
    names = NftNames(5, bpf_map.lookup)
    for chain in range(100):
        assert names.resolve(9, 7, chain) == ("t", f"c{chain}")
    assert len(names._cache) <= 8
