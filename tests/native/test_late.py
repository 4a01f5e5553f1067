"""What is attached to nftables that comes late: a child makes what a run would make itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from pypwru.btf.load import load_vmlinux
from pypwru.btf.query import BTF
from pypwru.cache import Cache
from pypwru.cli.flags import parse
from pypwru.config import Backend, Config
from pypwru.errors import BuildError
from pypwru.filter.compiler import compile_filter
from pypwru.filter.criteria import compile_criteria, compile_inner_filters
from pypwru.kernel.kallsyms import read_symbols
from pypwru.kernel.netns_filter import NetnsFilter
from pypwru.log import Log
from pypwru.nft.build import build_unit
from pypwru.nft.module_load import HandlerBuild
from pypwru.nft.verdict_sources import VERDICT_SOURCES, VerdictSource
from pypwru.program.conntrack_types import degrade_conntrack
from pypwru.program.macros import defines
from pypwru.wire.layout import record_layout
from tests.native.tracing import need_tracing
from tests.support.need import need

pytestmark = pytest.mark.native
NFT = VERDICT_SOURCES[0]


class Asked(NamedTuple):
    """A run, as far as it has it before it compiles."""

    config: Config
    macros: Mapping[str, str]
    btf: BTF


def asked(*words: str) -> Asked:
    need_tracing()
    config = parse(words)
    assert isinstance(config, Config)
    btf = load_vmlinux(config.kernel_btf)
    filters = compile_filter(config.pcap_filter), compile_inner_filters(config)
    criteria = compile_criteria(config, *filters, NetnsFilter(0, ""), btf)
    return Asked(config, defines(config, {Backend.KPROBE}, criteria, record_layout(config)), btf)


@contextmanager
def making(
    judge: VerdictSource,
    run: Asked,
    cache: Cache,
    keep: Callable[[str, str], object] | None = None,
) -> Iterator[HandlerBuild]:
    begun = HandlerBuild(judge, run.config, run.macros, cache, keep)
    try:
        yield begun
    finally:
        begun.close()


@pytest.mark.parametrize(
    "words",
    [["icmp"], ["--kernel-btf=/sys/kernel/btf/vmlinux", "--output-ct", "udp"]],
    ids=" ".join,
)
def test_a_child_makes_the_same(tmp_path: Path, words: list[str]) -> None:
    run, cache = asked(*words), Cache(tmp_path / "cache")
    symbols = read_symbols(NFT.symbols)
    functions = NFT.find_functions(symbols)
    need(functions, "a kernel that has nf_tables now")
    _, also = degrade_conntrack(run.config, run.btf, Log(None))
    from_child, from_here = dict[str, str](), dict[str, str]()
    with making(NFT, run, cache, from_child.__setitem__) as begun:
        made = begun.result()
    assert made is not None
    assert made.symbols.by_name == symbols.by_name
    kept = {path.name for path in cache.folder.iterdir()} if cache.folder else set()
    assert any(name.startswith("bytecode") for name in kept)
    keep, other = from_here.__setitem__, Cache(tmp_path / "other")
    unit = build_unit(run.btf, run.macros, other, also, NFT.unit, functions[0], keep=keep)
    assert made.bytecode == unit and "nft_chain_entry" in unit
    assert from_child == from_here
    assert set(from_child) == {"nft.layout.h", "nft.macros.h"}
    # A run that starts now finds it.
    build_unit(run.btf, run.macros, cache, also, NFT.unit, functions[0], not_again)


def not_again(main: str, layout: str, flags: list[str]) -> dict[str, str]:
    raise BuildError("it is compiled once more")


@pytest.mark.parametrize("judge", VERDICT_SOURCES[1:], ids=lambda judge: judge.name)
def test_others_are_made_if_they_are_there(tmp_path: Path, judge: VerdictSource) -> None:
    run = asked("icmp")
    is_there = bool(judge.find_functions(read_symbols(judge.symbols)))
    with making(judge, run, Cache(tmp_path / "cache")) as begun:
        made = begun.result()
    assert bool(made) is is_there
    assert made is None or set(made.bytecode) == {"xt_table_entry", "xt_table_exit"}


def test_nothing_can_be_kept() -> None:
    run = asked("icmp")
    need(NFT.find_functions(read_symbols(NFT.symbols)), "a kernel that has nf_tables now")
    with making(NFT, run, Cache(Path("/proc/cache"))) as begun:
        made = begun.result()
    assert made and "nft_chain_entry" in made.bytecode
