"""One session, from a Config to a detached kernel: DESIGN's line as code."""

from __future__ import annotations

from contextlib import ExitStack

from pypwru.attach.attach import NOUNS, attached
from pypwru.attach.backend import Search, choose
from pypwru.attach.tracing import program_kinds, traced_programs
from pypwru.btf.load import load_module, load_vmlinux, module_names
from pypwru.cache import Cache
from pypwru.config import Config
from pypwru.discovery.others import Tracking
from pypwru.discovery.selection import Selection
from pypwru.discovery.unmatched import nothing_attached
from pypwru.events import ring
from pypwru.events.counters import account, lost_by_recursion, read_counters, thrown_out
from pypwru.events.drain import LIMIT, PacketCount, drain, drain_rest
from pypwru.events.wire import wire
from pypwru.filter.compiler import compile_filter
from pypwru.filter.wanted import compile_inner, compile_wanted
from pypwru.kernel.capabilities import require_capabilities
from pypwru.kernel.place import find_place
from pypwru.log import Log
from pypwru.output.printing import text_printer
from pypwru.output.rotation import open_output
from pypwru.output.sink import make_empty
from pypwru.program import maps
from pypwru.program.build import build
from pypwru.program.defines import defines
from pypwru.program.layout import layout
from pypwru.program.load import Loader
from pypwru.program.source import sources
from pypwru.signals import interrupts


def run(config: Config, log: Log) -> None:
    """Trace until a signal, the limit of lines, or the reader's end.

    Raises:
        PypwruError: whatever stands in the way; everything is detached.
    """
    packet_filter = compile_filter(config.pcap_filter)
    inner = compile_inner(config)
    log.debug("Compiled the filter", classic=packet_filter)
    selection = Selection(config.filter_func, config.priority, frozenset(config.category))
    cache = Cache()
    with ExitStack() as stack:
        stop = stack.enter_context(interrupts())
        sink = stack.enter_context(open_output(config, stop, log))
        require_capabilities()
        btf = load_vmlinux(config.kernel_btf, cache)
        modules = {
            name: load_module(name, btf)
            for name in (module_names() if config.all_kmods else config.kmods)
        }
        wanted = compile_wanted(
            config, packet_filter, inner, find_place(config.filter_netns, config.filter_ifname), btf
        )
        tracking = Tracking(
            config.filter_track_skb,
            config.tracks_stacks,
            (lambda symbols: config.filter_non_skb_funcs) if config.filter_non_skb_funcs else None,
            config.output_bpfmap,
        )
        kinds = program_kinds(config)
        choice = choose(config.backend, Search(btf, modules, selection, tracking, bool(kinds)))
        backend = choice.plan.backend
        form = wire(config)
        if choice.why:
            log.info("Chose backend", backend=backend.value, why=choice.why)
        bytecode = build(
            layout(sources().values(), btf), defines(config, {backend}, wanted, form), cache
        )
        shared = maps.create(config, stack)
        reader = stack.enter_context(
            ring.opened(shared["events"], config.buffer_size, shared["reader"], form)
        )
        loader = Loader(bytecode, wanted.bodies(), wanted.constants(), shared, stack)
        log.info(f"Attaching {NOUNS[backend]}", via=backend.value)
        follows = tracking.by_address or tracking.by_stack
        with (
            attached(choice, loader, log, stop.requested, follows) as report,
            traced_programs(kinds, loader, log, report, stop.requested) as programs,
        ):
            if kinds and not report.functions:
                raise nothing_attached()
            log.info("Attached", ignored=len(report.ignored))
            for name, why in (*report.ignored, *choice.plan.unattachable):
                log.debug("Ignored", function=name, why=why)
            log.info("Listening for events..")
            if config.ready_file:
                make_empty(config.ready_file)
            printer = text_printer(config, sink, btf, choice.plan, report.names)
            packets = PacketCount(report.names)
            end = drain(reader, printer.print_batch, packets, stop, programs.poll)
            log.info(end.message, **({"count": printer.printed} if end is LIMIT else {}))
        if end.wants_rest:  # what was under way when the probes went
            drain_rest(reader, printer.print_batch, packets)
        counted = read_counters(shared["counters"])
        lost = lost_by_recursion(loader.recursion_misses())
        if "tracked" in shared:
            lost["tracking"] = thrown_out(counted, shared["tracked"])
        log.info("Done", **account(printer.printed, packets.total, counted, lost, report))
