"""What is kept of the kernel's functions comes back as it was."""

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


def test_it_comes_back_from_json() -> None:
    kept = make_function_facts(
        DiscoveryResult((RECEIVE, BRIDGE), (ABSENT,)), SYMBOLS, TRACEABLE, NAMES
    )
    discovery, symbols, traceable = function_facts_from_json(json.loads(json.dumps(kept.to_json())))

    assert discovery == kept.discovery
    assert symbols.by_name == {"_text": (1,), "kfree_skbmem": (2,), "nft_do_chain[nf_tables]": (3,)}
    assert set(traceable) == {("kfree_skbmem", ""), ("nft_do_chain", "nf_tables")}


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What stands for this boot; a test may change it."""
    boot: list[str | None] = ["boot 1"]
    monkeypatch.setattr(cached_functions, "addresses_identity", lambda: boot[0])
    return boot


def types() -> BTF:
    return btf_of(("skb_drop_reason", {"SKB_NOT_DROPPED_YET": 0}))


def test_an_answer_holds_for_a_boot_and_its_modules(
    tmp_path: Path, identity: list[str | None]
) -> None:
    cache, made = Cache(tmp_path / "cache"), iter(range(10))

    def answer(*modules: str) -> int:
        return FactCache(cache, types(), modules).get("functions", lambda: next(made))

    assert [answer(), answer(), answer("bridge"), answer("bridge")] == [0, 0, 1, 1]
    identity[0] = "boot 2"
    assert [answer(), answer()] == [2, 2]
    identity[0] = None  # /proc does not tell
    assert [answer(), answer()] == [3, 4]


def test_an_error_is_not_kept(tmp_path: Path, identity: list[str | None]) -> None:
    cache = Cache(tmp_path / "cache")

    def refuse() -> int:
        raise KernelError("no")

    with pytest.raises(KernelError):
        FactCache(cache, types(), ()).get("functions", refuse)
    assert FactCache(cache, types(), ()).get("functions", lambda: 7) == 7
