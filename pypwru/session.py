"""One session, from a Config to a detached kernel: DESIGN's line as code."""

from __future__ import annotations

from contextlib import ExitStack

from pypwru.attach.attach import KINDS, attached
from pypwru.attach.backend import choose
from pypwru.btf.load import load_module, load_vmlinux, module_names
from pypwru.cache import Cache
from pypwru.config import Config
from pypwru.discovery.selection import Selection
from pypwru.events import ring
from pypwru.events.counters import account, read_counters
from pypwru.events.drain import LIMIT, PacketCount, drain, drain_rest
from pypwru.filter.compiler import compile_filter
from pypwru.kernel.capabilities import require_capabilities
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
        choice = choose(config.backend, btf, modules, selection)
        backend = choice.plan.backend
        if choice.why:
            log.info("Chose backend", backend=backend.value, why=choice.why)
        bytecode = build(
            layout(sources().values(), btf), defines(config, backend, packet_filter), cache
        )
        shared = maps.create(config.buffer_size, stack)
        reader = stack.enter_context(
            ring.opened(shared["events"], config.buffer_size, shared["reader"])
        )
        kind = KINDS[backend]
        loader = Loader(bytecode, packet_filter, shared, kind.program, kind.attach, stack)
        log.info(f"Attaching {kind.noun}", via=backend.value)
        with attached(choice, loader, log, stop.requested) as report:
            log.info("Attached", ignored=len(report.ignored))
            for name, why in (*report.ignored, *choice.plan.unattachable):
                log.debug("Ignored", function=name, why=why)
            log.info("Listening for events..")
            if config.ready_file:
                make_empty(config.ready_file)
            printer = text_printer(config, sink, btf, choice.plan, report.names)
            packets = PacketCount(report.names)
            end = drain(reader, printer.print_batch, packets, stop)
            log.info(end.message, **({"count": printer.printed} if end is LIMIT else {}))
        if end.wants_rest:  # what was under way when the probes went
            drain_rest(reader, printer.print_batch, packets)
        counted = read_counters(shared["counters"])
        log.info(
            "Done",
            **account(printer.printed, packets.total, counted, loader.recursion_misses(), report),
        )
