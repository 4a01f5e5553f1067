"""Handlers of an nf_tables module that is loaded during a run: a child builds what a run would."""

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
from pypwru.kernel.kallsyms import read_symbols
from pypwru.kernel.netns_filter import NetnsFilter
from pypwru.log import Log
from pypwru.needs import Needs
from pypwru.nft.build import build_unit
from pypwru.nft.module_load import HandlerBuild
from pypwru.nft.verdict_sources import VERDICT_SOURCES, VerdictSource
from pypwru.program.conntrack_types import find_conntrack_types
from pypwru.program.macros import defines
from pypwru.wire.layout import record_layout
from tests.native.tracing import need_tracing
from tests.support.criteria import criteria_of
from tests.support.need import need

pytestmark = pytest.mark.native
NFT = VERDICT_SOURCES[0]


class RunSetup(NamedTuple):
    """A run, as far as a session has it before it compiles."""

    config: Config
    macros: Mapping[str, str]
    btf: BTF


def set_up_run(*words: str) -> RunSetup:
    need_tracing()
    config = parse(words)
    assert isinstance(config, Config)
    btf = load_vmlinux(config.kernel_btf)
    criteria = criteria_of(config, NetnsFilter(0, ""), btf)
    needs = Needs.of(config, page_fragments=criteria.needs_fragments)
    macros = defines(needs, {Backend.KPROBE}, criteria, record_layout(needs))
    return RunSetup(config, macros, btf)


@contextmanager
def building(
    source: VerdictSource,
    run: RunSetup,
    cache: Cache,
    keep: Callable[[str, str], object] | None = None,
) -> Iterator[HandlerBuild]:
    handler_build = HandlerBuild(
        source,
        run.macros,
        cache,
        keep,
        kernel_btf=run.config.kernel_btf,
        has_conntrack=run.config.output_ct,
    )
    try:
        yield handler_build
    finally:
        handler_build.close()


@pytest.mark.parametrize(
    "words",
    [["icmp"], ["--kernel-btf=/sys/kernel/btf/vmlinux", "--output-ct", "udp"]],
    ids=" ".join,
)
def test_child_builds_same_bytecode(tmp_path: Path, words: list[str]) -> None:
    run, cache = set_up_run(*words), Cache(tmp_path / "cache")
    symbols = read_symbols(NFT.symbols)
    functions = NFT.find_functions(symbols)
    need(functions, "a kernel that has nf_tables now")
    also = find_conntrack_types(run.btf, Log(None)) if run.config.output_ct else ()
    from_child, from_here = dict[str, str](), dict[str, str]()
    with building(NFT, run, cache, from_child.__setitem__) as handler_build:
        built = handler_build.result()
    assert built is not None
    assert built.symbols.by_name == symbols.by_name
    kept = {path.name for path in cache.folder.iterdir()} if cache.folder else set()
    assert any(name.startswith("bytecode") for name in kept)
    keep, other = from_here.__setitem__, Cache(tmp_path / "other")
    unit = build_unit(run.btf, run.macros, other, also, NFT.unit, functions[0], keep=keep)
    assert built.bytecode == unit and "nft_chain_entry" in unit
    assert from_child == from_here
    assert set(from_child) == {"nft.layout.h", "nft.macros.h"}
    # A run that starts now finds it in the cache.
    build_unit(run.btf, run.macros, cache, also, NFT.unit, functions[0], fail_compile)


def fail_compile(main: str, layout: str, flags: list[str]) -> dict[str, str]:
    raise BuildError("it is compiled once more")


@pytest.mark.parametrize("source", VERDICT_SOURCES[1:], ids=lambda source: source.name)
def test_other_sources_are_built_if_loaded(tmp_path: Path, source: VerdictSource) -> None:
    run = set_up_run("icmp")
    is_there = bool(source.find_functions(read_symbols(source.symbols)))
    with building(source, run, Cache(tmp_path / "cache")) as handler_build:
        built = handler_build.result()
    assert bool(built) is is_there
    assert built is None or set(built.bytecode) == {"xt_table_entry", "xt_table_exit"}


def test_build_without_cache_folder() -> None:
    run = set_up_run("icmp")
    need(NFT.find_functions(read_symbols(NFT.symbols)), "a kernel that has nf_tables now")
    with building(NFT, run, Cache(Path("/proc/cache"))) as handler_build:
        built = handler_build.result()
    assert built and "nft_chain_entry" in built.bytecode
