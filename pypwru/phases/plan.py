"""Phase 1, plan: what to trace, with which backend and criteria. No program or map exists yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.select import disable_nft_without_kprobes, select_backend
from pypwru.btf.load import require_running_kernel_btf
from pypwru.discovery.request import log_implicit, log_missing, log_unattachable, resolve_request
from pypwru.filter.compiler import compile_filter
from pypwru.filter.criteria import ExpressionTexts, compile_criteria, compile_inner_filters
from pypwru.kernel.bpf import require_architecture
from pypwru.kernel.lockdown import require_kernel_reads
from pypwru.kernel.netns_filter import resolve_netns
from pypwru.needs import Needs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import ExitStack

    from pypwru.attach.bpf_programs import ProgramKind
    from pypwru.attach.select import BackendPlan
    from pypwru.cache import Cache
    from pypwru.config import Config
    from pypwru.discovery.function_list import NameList
    from pypwru.discovery.request import TraceRequest
    from pypwru.filter.compiler import Filter
    from pypwru.filter.criteria import Criteria, InnerFilters
    from pypwru.log import Log
    from pypwru.nft.match import NftCriteria
    from pypwru.program.conntrack_types import ConntrackTypes


class Filters(NamedTuple):
    """The parts of a Config that are compiled or read before the kernel is touched.

    Args:
        packet: compiled pcap filter.
        inner: compiled pcap filters of the packet inside a tunnel.
        names: the only functions to trace (--functions); None for no such list.
    """

    packet: Filter
    inner: InnerFilters
    names: NameList | None = None


def compile_filters(config: Config, log: Log) -> Filters:
    """Compile the pcap filters of ``config`` and read the list of --functions.

    Raises:
        FilterError: libpcap can't compile a filter.
        ListError: --functions can't be read.
    """
    with log.operation("Compiling the filter"):
        packet = compile_filter(config.pcap_filter)
        inner = compile_inner_filters(config.filter_tunnel_pcap_l2, config.filter_tunnel_pcap_l3)
    log.debug("Compiled the filter", classic=packet)
    if config.debug:
        _log_ebpf(packet, log)
    if config.functions is None:
        return Filters(packet, inner)
    from pypwru.discovery.function_list import read_names

    return Filters(packet, inner, read_names(config.functions))


def _log_ebpf(packet: Filter, log: Log) -> None:
    """Log the eBPF of both views of the filter, as it is before it is put into a handler."""
    from pypwru.asm.disassembly import disassemble_like_tcpdump

    for title, view in (("L2 (Ethernet)", packet.l2), ("L3 (IP)", packet.l3)):
        log.debug("eBPF of the filter", view=title)
        log.write_text(f"{disassemble_like_tcpdump(view.body(0))}\n")


class Plan(NamedTuple):
    """What a session will load and attach.

    Args:
        config: of the run, without the features that this kernel lacks.
        needs: of ``config``.
        criteria: the compiled filters, expressions and limits of packets.
        request: what to trace, and the types to find it in.
        choice: the backend, and the targets that it attaches.
        program_kinds: kinds of BPF programs that are traced (--filter-trace-tc, -xdp).
        conntrack: types of conntrack; empty without --output-ct.
        netns: inode of the only network namespace that is traced; 0 for all.
        nft_criteria: of --filter-nft-*; None without them.
    """

    config: Config
    needs: Needs
    criteria: Criteria
    request: TraceRequest
    choice: BackendPlan
    program_kinds: Sequence[ProgramKind]
    conntrack: Sequence[ConntrackTypes]
    netns: int
    nft_criteria: NftCriteria | None


def make_plan(config: Config, filters: Filters, cache: Cache, stack: ExitStack, log: Log) -> Plan:
    """Plan a session.

    Args:
        config: of the run.
        filters: compiled from ``config``.
        cache: of the kernel's types and functions.
        stack: keeps the network namespace of --filter-netns open.
        log: gets the selected backend, and what can't be traced.

    Raises:
        PypwruError: the kernel lacks what the run needs, or nothing matches.
    """
    require_architecture()
    require_kernel_reads()
    netns_filter = resolve_netns(config.filter_netns, config.filter_ifname, stack, log)
    program_kinds = _program_kinds(config)
    if config.kernel_btf is not None:
        require_running_kernel_btf(config.kernel_btf, cache)
    with log.operation("Looking for functions that take a packet"):
        request = resolve_request(config, cache, filters.names)
        expressions = ExpressionTexts(
            config.filter_skb_expr,
            config.filter_xdp_expr,
            config.output_skb_metadata,
            config.output_xdp_metadata,
        )
        criteria = compile_criteria(
            filters.packet,
            filters.inner,
            netns_filter,
            config.filter_mark,
            expressions,
            request.btf,
        )
        choice = select_backend(config.backend, request, cache, _verdict_functions)
    if choice.why:
        log.info("Chose backend", backend=choice.plan.backend.value)
        log.debug("Chose backend", why=choice.why)
    log_missing(request, choice.plan, log)
    log_implicit(request, choice.plan, log)
    log_unattachable(request, choice.plan, log)
    config = disable_nft_without_kprobes(config, choice, log)
    conntrack: Sequence[ConntrackTypes] = ()
    if config.output_ct:
        from pypwru.program.conntrack_types import find_conntrack_types

        conntrack = find_conntrack_types(request.btf, log)
        config = config._replace(output_ct=bool(conntrack))
    return Plan(
        config,
        Needs.of(config, page_fragments=criteria.needs_fragments),
        criteria,
        request,
        choice,
        program_kinds,
        conntrack,
        netns_filter.netns,
        nft_criteria(config) if config.has_nft_filter else None,
    )


# What follows imports modules that only some runs need, so that other runs start faster.


def _verdict_functions() -> Collection[str]:
    from pypwru.nft.verdict_sources import verdict_functions

    return verdict_functions()


def _program_kinds(config: Config) -> Sequence[ProgramKind]:
    if not (config.filter_trace_tc or config.filter_trace_xdp):
        return ()
    from pypwru.attach.bpf_programs import select_program_kinds

    return select_program_kinds(
        has_tc=config.filter_trace_tc,
        has_xdp=config.filter_trace_xdp,
        tracks_skb=config.filter_track_skb,
    )


def nft_criteria(config: Config) -> NftCriteria:
    """Return the criteria of --filter-nft-*."""
    from pypwru.nft.match import NftCriteria

    return NftCriteria(
        verdicts=config.filter_nft_verdict,
        tables=config.filter_nft_table,
        chains=config.filter_nft_chain,
        handle=config.filter_nft_handle,
        text=config.filter_nft_text,
    )
