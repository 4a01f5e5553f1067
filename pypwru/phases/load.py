"""Phase 2, load: the compiled handlers, the maps and the readers. No probe is attached yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.bpf_sources import FIELDS, MAIN, sources
from pypwru.kernel.bpf_info import enable_bpf_stats
from pypwru.names.drop_reasons import DropReasons
from pypwru.nft.service import NO_NFT_SOURCE, open_nft_source
from pypwru.program import maps
from pypwru.program.build import build
from pypwru.program.cached_layout import cached_layout
from pypwru.program.load import Loader
from pypwru.program.macros import defines
from pypwru.program.sampling_constants import sampling_constants
from pypwru.ring import reader as ring_reader
from pypwru.wire.layout import record_layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from pypwru.cache import Cache
    from pypwru.log import Log
    from pypwru.nft.service import NftSource
    from pypwru.pcap.packet_data import PacketDataReader
    from pypwru.phases.plan import Plan
    from pypwru.program.debug_files import DebugFiles
    from pypwru.wire.layout import RecordLayout


class Loaded(NamedTuple):
    """What a session has open before its first probe; closed by the stack given to ``load``.

    Args:
        layout: the layout of records.
        loader: loads handlers as programs.
        macros: of the compile, name -> text.
        map_fds: map name -> descriptor.
        reader: of the ring buffer.
        packets: reader of packet data; None if none is captured.
        rule_source: names of chains and texts of rules.
        reasons: drop reasons of this kernel.
        counts_runs: whether the kernel counts the runs of programs.
        debug_files: get what is generated later, too; None without --debug.
    """

    layout: RecordLayout
    loader: Loader
    macros: Mapping[str, str]
    map_fds: Mapping[str, int]
    reader: ring_reader.RingReader
    packets: PacketDataReader | None
    rule_source: NftSource
    reasons: DropReasons
    counts_runs: bool
    debug_files: DebugFiles | None


def load(plan: Plan, cache: Cache, stack: ExitStack, log: Log) -> Loaded:
    """Compile the handlers, create the maps and open the readers of ``plan``.

    Args:
        plan: of the session.
        cache: of bytecode, of layouts and of drop reasons.
        stack: closes all of it.
        log: of the run.

    Raises:
        PypwruError: a compile failed, or the kernel refused a map.
    """
    config, needs, criteria = plan.config, plan.needs, plan.criteria
    layout = record_layout(needs)
    counts_runs = needs.run_counts and stack.enter_context(enable_bpf_stats())
    macros = defines(needs, plan.choice.plan.backends, criteria, layout)
    with log.operation("Compiling the handlers"):
        layout_text = _layout(plan, cache)
        debug_files = _debug_files(layout_text, macros, log) if config.debug else None
        bytecode = build(layout_text, macros, cache)
    map_fds = maps.create_maps(needs, config.buffer_size, stack)
    reader = stack.enter_context(
        ring_reader.open_ring(map_fds["events"], config.buffer_size, map_fds["reader"], layout)
    )
    # Subscribe to nftables changes before the first probe fires: a rule that was replaced before
    # the subscription can't be named.
    rule_source = NO_NFT_SOURCE
    if needs.verdicts:
        rule_source = stack.enter_context(
            open_nft_source(
                map_fds["nft_names"],
                plan.choice.symbols,
                plan.netns,
                log,
                needs_rule_text=needs.rule_texts,
            )
        )
    packets = None
    if needs.packet_data:
        from pypwru.pcap.packet_data import open_packet_data

        packets = stack.enter_context(
            open_packet_data(map_fds["packets"], config.buffer_size, layout, needs.snaplen)
        )
    reasons = DropReasons(plan.request.btf, cache=cache)
    constants = {
        **criteria.load_time_constants(),
        **_page_constants(plan, log),
        **sampling_constants(
            sample_rate=config.sample_rate,
            sample_flow=config.sample_flow,
            rate_limit=config.rate_limit,
            max_hits=config.max_hits,
        ),
        **reasons.constants(),
    }
    bodies = criteria.bodies_by_marker()
    loader = Loader(bytecode, bodies, constants, map_fds, stack, debug_files)
    return Loaded(
        layout,
        loader,
        macros,
        map_fds,
        reader,
        packets,
        rule_source,
        reasons,
        counts_runs,
        debug_files,
    )


def _layout(plan: Plan, cache: Cache) -> str:
    """Return the C text of the layout of kernel structs."""
    btf, conntrack = plan.request.btf, plan.conntrack

    def make() -> str:
        from pypwru.program.layout import build_layout

        return build_layout(sources()[FIELDS], btf, *conntrack)

    if conntrack:  # its types may be a module's, which the cache's key doesn't cover
        return make()
    return cached_layout(btf, cache, make)


def _debug_files(layout: str, macros: Mapping[str, str], log: Log) -> DebugFiles:
    """Return the files of --debug, with what the handlers are compiled with."""
    from pypwru.program.debug_files import DebugFiles, keep_unit

    files = DebugFiles(log)
    keep_unit(files.write, MAIN, layout, macros)
    return files


def _page_constants(plan: Plan, log: Log) -> Mapping[str, int]:
    """Return the load-time constants with which handlers find page fragments, if they do."""
    needs = plan.needs
    if not (needs.packet_data or needs.page_fragments):
        return {}
    from pypwru.program.page_bases import PageBases, find_page_bases

    bases = find_page_bases(plan.request.btf)
    if needs.page_fragments and bases == PageBases():
        why = "finding page fragments takes CAP_SYS_ADMIN"
        log.warn("Filters match only the linear part of packets", why=why)
    return bases.constants()
