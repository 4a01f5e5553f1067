"""One session, from a Config to a detached kernel: DESIGN's line as code."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from pypwru.attach.attach import NOUNS, attached
from pypwru.attach.attached import Attached
from pypwru.attach.backend import choose
from pypwru.attach.nft import nft_probes, nft_where_possible
from pypwru.attach.tracing import program_kinds, traced_programs
from pypwru.cache import Cache
from pypwru.config import Config
from pypwru.events import ring
from pypwru.events.counters import account, lost_by_recursion, read_counters, thrown_out
from pypwru.events.drain import LIMIT, PacketCount, drain, drain_rest
from pypwru.events.wire import wire
from pypwru.filter.compiler import compile_filter
from pypwru.filter.wanted import compile_inner, compile_wanted
from pypwru.kernel.capabilities import require_capabilities
from pypwru.kernel.place import find_place
from pypwru.log import Log
from pypwru.output.nft_source import nft_source
from pypwru.output.printing import printer
from pypwru.output.rotation import open_output
from pypwru.output.sink import make_empty
from pypwru.output.stages import Stages
from pypwru.program import maps
from pypwru.program.build import build
from pypwru.program.build_nft import build_unit
from pypwru.program.conntrack import conntrack_where_possible
from pypwru.program.defines import defines
from pypwru.program.layout import layout
from pypwru.program.load import Loader
from pypwru.program.source import sources
from pypwru.search import search
from pypwru.signals import interrupts


def run(config: Config, log: Log) -> None:
    """Trace until a signal, the limit of lines, or the reader's end.

    Raises:
        PypwruError: whatever stands in the way; everything is detached.
    """
    # Long, since it shows in one place in which order the kernel is touched, and let go of.
    packet = compile_filter(config.pcap_filter)
    log.debug("Compiled the filter", classic=packet)
    inner = compile_inner(config)
    cache = Cache()
    with ExitStack() as stack:
        stop = stack.enter_context(interrupts())
        sink = stack.enter_context(open_output(config, stop, log))
        require_capabilities()
        place = find_place(config.filter_netns, config.filter_ifname)
        kinds = program_kinds(config)
        wish = search(config, cache)
        wanted = compile_wanted(config, packet, inner, place, wish.btf)
        choice = choose(config.backend, wish)
        backend = choice.plan.backend
        if choice.why:
            log.info("Chose backend", backend=backend.value, why=choice.why)
        config = nft_where_possible(config, choice, log)
        config, conntrack = conntrack_where_possible(config, wish.btf, log)
        form = wire(config)
        macros = defines(config, choice.plan.backends, wanted, form)
        bytecode = build(layout(sources().values(), wish.btf, *conntrack), macros, cache)
        shared = maps.create(config, stack)
        reader = stack.enter_context(
            ring.opened(shared["events"], config.buffer_size, shared["reader"], form)
        )
        # Before anything is seen: what a rule was before its namespace was listened to isn't told.
        texts = stack.enter_context(nft_source(config, shared, log))
        compile_nft = partial(build_unit, wish.btf, macros, cache, conntrack)
        loader = Loader(bytecode, wanted.bodies(), wanted.constants(), shared, stack)
        report = Attached()
        with ExitStack() as probes:
            log.info(f"Attaching {NOUNS[backend]}", via=backend.value)
            probes.enter_context(attached(choice, loader, report, log, stop.requested))
            programs = probes.enter_context(
                traced_programs(kinds, loader, log, report, stop.requested)
            )
            nft = probes.enter_context(nft_probes(config, choice, loader, compile_nft, report, log))
            log.info("Attached", ignored=len(report.ignored))
            for name, why in (*report.ignored, *choice.plan.unattachable):
                log.debug("Ignored", function=name, why=why)
            members = wanted.skb_members, wanted.xdp_members
            shown = printer(config, sink, wish.btf, report.names, *members, nft=texts)
            stages = Stages(config, shown.print_batch, report.names, texts)
            packets = PacketCount(report.names)
            log.info("Listening for events..")
            if config.ready_file:
                make_empty(config.ready_file)
            shown.print_header()
            end = drain(reader, stages.show, packets, stop, [programs.poll, nft])
            log.info(end.message, **({"count": shown.printed} if end is LIMIT else {}))
            missed = sum(tell() for tell in report.missed)
        if end.wants_rest:  # what was under way when the probes went
            drain_rest(reader, stages.show, packets)
            stages.finish()
        counted = read_counters(shared["counters"])
        lost = lost_by_recursion(loader.recursion_misses()) | {"missed": missed} | stages.lost()
        lost |= thrown_out(counted, shared)
        log.info("Done", **account(shown.printed, packets.total, counted, lost, report))
