"""Cached facts about the kernel's functions are read back unchanged."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import pytest

from pypwru.btf.query import BTF
from pypwru.cache import Cache
from pypwru.discovery import cached_functions
from pypwru.discovery.cached_functions import (
    FactCache,
    function_facts_from_json,
    make_function_facts,
)
from pypwru.discovery.functions import DiscoveryResult, Function, Unattachable
from pypwru.errors import KernelError
from pypwru.kernel.ftrace import TraceableFunctions
from pypwru.kernel.kallsyms import Symbols
from tests.support.records import btf_of

RECEIVE = Function("ip_rcv", "", 1, 0, (0xFFFFFFFF81000010,), "ip_rcv", "ip", 1)
BRIDGE = Function("br_forward", "bridge", 2, 3, (1, 2), "br_forward[bridge]", "bridge", 2)
ABSENT = Unattachable(RECEIVE._replace(addresses=()), "it has no address in /proc/kallsyms")
SYMBOLS = Symbols(
    ["ip_rcv", "_text", "kfree_skbmem", "nft_do_chain[nf_tables]"], array("Q", range(4))
)
TRACEABLE = TraceableFunctions(
    ["ip_rcv", "kfree_skbmem", "kfree_skbmem_ish", "nft_do_chain [nf_tables]"]
)
NAMES = {"_text", "kfree_skbmem", "nft_do_chain"}


def test_facts_round_trip_through_json() -> None:
    facts = make_function_facts(
        DiscoveryResult((RECEIVE, BRIDGE), (ABSENT,)), SYMBOLS, TRACEABLE, NAMES
    )
    discovery, symbols, traceable = function_facts_from_json(
        json.loads(json.dumps(facts.to_json()))
    )

    assert discovery == facts.discovery
    assert symbols.by_name == {"_text": (1,), "kfree_skbmem": (2,), "nft_do_chain[nf_tables]": (3,)}
    assert set(traceable) == {("kfree_skbmem", ""), ("nft_do_chain", "nf_tables")}


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The identity of this boot; a test may change it."""
    boot: list[str | None] = ["boot 1"]
    monkeypatch.setattr(cached_functions, "addresses_identity", lambda: boot[0])
    return boot


def reason_btf() -> BTF:
    return btf_of(("skb_drop_reason", {"SKB_NOT_DROPPED_YET": 0}))


def test_facts_are_valid_for_boot_and_modules(tmp_path: Path, identity: list[str | None]) -> None:
    cache, numbers = Cache(tmp_path / "cache"), iter(range(10))

    def cached_number(*modules: str) -> int:
        return FactCache(cache, reason_btf(), modules).get("functions", lambda: next(numbers))

    assert [cached_number(), cached_number(), cached_number("bridge"), cached_number("bridge")] == [
        0,
        0,
        1,
        1,
    ]
    identity[0] = "boot 2"
    assert [cached_number(), cached_number()] == [2, 2]
    identity[0] = None  # /proc doesn't have it
    assert [cached_number(), cached_number()] == [3, 4]


def test_errors_are_not_cached(tmp_path: Path, identity: list[str | None]) -> None:
    cache = Cache(tmp_path / "cache")

    def refuse() -> int:
        raise KernelError("no")

    with pytest.raises(KernelError):
        FactCache(cache, reason_btf(), ()).get("functions", refuse)
    assert FactCache(cache, reason_btf(), ()).get("functions", lambda: 7) == 7
