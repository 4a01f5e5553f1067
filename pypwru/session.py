"""A tracing session: Config -> search -> compile -> load -> attach -> records -> detach.

A session yields batches of records to the command line (``run.py``) and to the Python API
(``api/trace.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.attach import PROBE_NOUN, attach
from pypwru.attach.attached import AttachReport
from pypwru.attach.backend import disable_nft_without_kprobes, select_backend
from pypwru.attach.throttled import NO_THROTTLING, ThrottleReport, open_throttle_report
from pypwru.btf.load import require_running_kernel_btf
from pypwru.cache import Cache
from pypwru.config import Backend
from pypwru.events import ring
from pypwru.events.counters import (
    Counters,
    count_evicted,
    count_lost_ids,
    count_recursion_misses,
    count_suppressed,
    read_counters,
    summarize,
)
from pypwru.events.drain import drain, drain_remaining
from pypwru.events.identities import make_packet_counter
from pypwru.events.limit import EventLimit
from pypwru.events.record import RawRecord
from pypwru.events.wire import record_layout
from pypwru.filter.compiler import Filter, compile_filter
from pypwru.filter.wanted import InnerFilters, compile_criteria, compile_inner_filters
from pypwru.kernel.bpf import require_architecture
from pypwru.kernel.bpf_objects import RunStats, enable_bpf_stats
from pypwru.kernel.lockdown import require_kernel_reads
from pypwru.kernel.place import resolve_netns
from pypwru.kernel.switches import watch_switches
from pypwru.output.naming import build_resolver
from pypwru.output.nft_source import open_nft_source
from pypwru.output.stages import Pipeline
from pypwru.program import maps
from pypwru.program.build import build
from pypwru.program.defines import defines
from pypwru.program.kept_layout import cached_layout
from pypwru.program.load import Loader
from pypwru.program.shares import sampling_constants
from pypwru.program.source import sources
from pypwru.resolve.reasons import DropReasons
from pypwru.search import log_implicit, log_missing, log_unattachable, resolve_request

if TYPE_CHECKING:
    from pypwru.attach.backend import BackendPlan
    from pypwru.attach.judges import VerdictSource
    from pypwru.attach.late import HandlerBuild
    from pypwru.attach.tracing import ProgramKind
    from pypwru.config import Config
    from pypwru.discovery.names import NameList
    from pypwru.events.packets import PacketCapture, PacketDataReader
    from pypwru.events.wire import RecordLayout
    from pypwru.log import Log
    from pypwru.program.conntrack import ConntrackTypes
    from pypwru.resolve.event_names import NameResolver
    from pypwru.search import TraceRequest
    from pypwru.signals import StopRequest

Batch = Sequence[RawRecord]


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
        inner = compile_inner_filters(config)
    log.debug("Compiled the filter", classic=packet)
    if config.functions is None:
        return Filters(packet, inner)
    from pypwru.discovery.names import read_names

    return Filters(packet, inner, read_names(config.functions))


class Session:
    """The attached probes of a run, their records and counters.

    Order of calls: ``batches``, ``stop``, ``drain_remaining`` for the remaining records,
        ``detach``, ``drain_remaining``
    again, ``summary``. Leaving ``open_session`` detaches in any case.

    Args:
        config: of the run, without the features that this kernel lacks.
        names: resolver of the numbers in records.
        reader: of the ring buffer.
        packets: reader of packet data; None if none is captured.
        pipeline: the pipeline between the reader and the outputs.
        report: of what is attached; grows while functions are attached later.
        stop_request: the stop request.
        pollers: called about twice a second, to notice changes of the system.
        probes: closed to detach.
        losses: returns losses by cause. Its argument is whether all probes are detached: only then
            the maps can be counted.
        maps: name -> file descriptor.
        throttle_report: counts the events that --max-hits suppressed, by function.
        run_stats: returns the run time and run count of each handler; None if the kernel doesn't
            count them.
        hits: returns the number of hits of probes on packets, if the kernel counts runs.
        netns: inode of the only network namespace that is traced; 0 for all.

    Attributes:
        targets: address -> name of all attached functions, tracepoints and programs; grows.
    """

    # Many arguments, since this is all the state of a session.
    def __init__(
        self,
        config: Config,
        names: NameResolver,
        reader: ring.RingReader,
        packets: PacketDataReader | None,
        pipeline: Pipeline,
        report: AttachReport,
        stop_request: StopRequest,
        pollers: list[Callable[[], None]],
        probes: ExitStack,
        losses: Callable[[bool], dict[str, int]],
        maps: Mapping[str, int],
        throttle_report: ThrottleReport = NO_THROTTLING,
        run_stats: Callable[[], Mapping[str, RunStats]] | None = None,
        hits: Callable[[], int] = lambda: 0,
        netns: int = 0,
    ) -> None:
        self.config = config
        self.netns = netns
        self.names = names
        self.targets = report.targets
        self.run_stats = run_stats
        self.hits = hits
        self._reader = reader
        self._packets = packets
        self._pipeline = pipeline
        self._report = report
        self._stop_request = stop_request
        self._pollers = pollers
        self._probes = probes
        self._losses = losses
        self._maps = maps
        self.throttle_report = throttle_report
        self._packet_count = make_packet_counter(record_layout(config))
        self._limit = EventLimit(config.output_limit_lines)
        self._missed: int | None = None  # known once all is detached

    def batches(self) -> Iterator[Batch]:
        """Yield batches of records as they arrive, also empty ones.

        Ends on a stop request, or after --output-limit-lines events.
        """
        yield from self._process(drain(self._reader, self._stop_request, self._pollers))

    def drain_remaining(self) -> Iterator[Batch]:
        """Yield the remaining records of the ring; once detached, also those held by the stages."""
        yield from self._process(drain_remaining(self._reader))
        if self._missed is not None and not self.limit_reached:
            yield from map(self._limit.take, self._pipeline.finish())

    def _process(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self._packets:
                self._packets.read_chunks()
            if self._packet_count:
                self._packet_count.add(batch)
            yield from map(self._limit.take, self._pipeline.take(batch) or [batch[:0]])
            if self._limit.is_reached:
                return

    def packet_data(self, record: RawRecord) -> PacketCapture | None:
        """Return the packet data of ``record``; must be called once for each record, in order.

        Returns:
            None if no packet data was captured for it.
        """
        return self._packets.pop(record) if self._packets else None

    @property
    def limit_reached(self) -> bool:
        """Whether --output-limit-lines events were yielded."""
        return self._limit.is_reached

    def stop(self) -> None:
        """Stop the handlers from writing records; the probes stay attached."""
        self._reader.stop()

    def detach(self) -> None:
        """Detach all probes; a second call does nothing."""
        if self._missed is None:
            self._missed = sum(count() for count in self._report.missed_counters)
            self._probes.close()

    def watch(self, fd: int) -> None:
        """Have ``batches`` yield a batch, possibly empty, when ``fd`` becomes readable."""
        self._reader.watch(fd)

    def add_poller(self, poller: Callable[[], None]) -> None:
        """Have ``batches`` call ``poller`` about twice a second."""
        self._pollers.append(poller)

    def handler_counters(self) -> Counters:
        """Return the counters of the handlers so far, summed over CPUs."""
        return read_counters(self._maps["counters"])

    def summary(self, shown: int) -> dict[str, int]:
        """Return what became of every event, by counter; complete once detached.

        Args:
            shown: number of events that were output.
        """
        counters = read_counters(self._maps["counters"])
        is_detached, missed = self._missed is not None, self._missed
        if missed is None:
            missed = sum(count() for count in self._report.missed_counters)
        losses = self._losses(is_detached) | {"missed": missed} | self._pipeline.lost()
        if is_detached:
            losses |= count_evicted(counters, self._maps)
        skipped = count_suppressed(self.config, counters)
        packets = self._packet_count.total if self._packet_count else None
        result = summarize(shown, packets, counters, skipped, losses, self._report)
        return result | (self._packets.summarize(counters) if self._packets else {})


@contextmanager
def open_session(
    config: Config, filters: Filters, log: Log, stop_request: StopRequest
) -> Iterator[Session]:
    """Attach everything and open a session; detach on the way out.

    Args:
        config: of the run.
        filters: compiled from ``config``.
        log: of the run.
        stop_request: the stop request, also checked while attaching.

    Yields:
        The session, valid until the way out.

    Raises:
        PypwruError: something can't be attached; everything is detached.
    """
    # Long, to show in one place the order in which kernel objects are created and released.
    require_architecture()
    require_kernel_reads()
    cache = Cache(log=log)
    with ExitStack() as stack:
        netns_filter = resolve_netns(config.filter_netns, config.filter_ifname, stack, log)
        program_types = _program_types(config)
        if config.kernel_btf is not None:
            require_running_kernel_btf(config.kernel_btf, cache)
        with log.operation("Looking for functions that take a packet"):
            request = resolve_request(config, cache, filters.names)
            criteria = compile_criteria(
                config, filters.packet, filters.inner, netns_filter, request.btf
            )
            choice = select_backend(config.backend, request, cache, _verdict_functions)
        backend = choice.plan.backend
        if choice.why:
            log.info("Chose backend", backend=backend.value)
            log.debug("Chose backend", why=choice.why)
        log_missing(request, choice.plan, log)
        log_implicit(request, choice.plan, log)
        log_unattachable(request, choice.plan, log)
        config, conntrack = _disable_unsupported(config, choice, request, log)
        layout = record_layout(config)
        counts_runs = config.has_statistics and stack.enter_context(enable_bpf_stats())
        macros = defines(config, choice.plan.backends, criteria, layout)
        with log.operation("Compiling the handlers"):
            bytecode = build(_layout(request, conntrack, cache), macros, cache)
        extra_maps = ("linear_copies",) if criteria.needs_fragments else ()
        map_fds = maps.create_maps(config, stack, extra_maps)
        reader = stack.enter_context(
            ring.open_ring(map_fds["events"], config.buffer_size, map_fds["reader"], layout)
        )
        # Subscribe to nftables changes before the first probe fires: a rule that was replaced
        # before the subscription can't be named.
        rule_source = stack.enter_context(
            open_nft_source(config, map_fds, choice.symbols, netns_filter.netns, log)
        )
        packets = _open_packet_data(config, map_fds, layout, stack)
        reads_pages = config.captures_packets or criteria.needs_fragments
        pages = _page_constants(request, criteria.needs_fragments, log) if reads_pages else {}
        reasons = DropReasons(request.btf, cache=cache)
        constants = {
            **criteria.load_time_constants(),
            **pages,
            **sampling_constants(config),
            **reasons.constants(),
        }
        loader = Loader(bytecode, criteria.bodies_by_marker(), constants, map_fds, stack)
        report = AttachReport()
        with ExitStack() as probes:
            pollers: list[Callable[[], None]] = []
            fill_capture_points = _capture_point_filler(
                config, map_fds, choice, report, reasons, log
            )
            throttle_report = probes.enter_context(
                open_throttle_report(config, map_fds, report.targets, log)
            )
            log.info(f"Attaching {PROBE_NOUN[backend]}", via=backend.value)
            with log.operation("Attaching"):
                probes.enter_context(attach(choice, loader, report, log, stop_request.requested))
            if program_types:
                from pypwru.attach.tracing import trace_programs

                programs = trace_programs(
                    program_types, loader, log, report, stop_request.requested
                )
                pollers.append(probes.enter_context(programs).poll)
            if not (report.target_count or stop_request.requested()):
                from pypwru.discovery.unmatched import nothing_attached_error

                raise nothing_attached_error(report.ignored)
            if config.traces_nft:
                from pypwru.attach.nft import attach_verdict_probes
                from pypwru.program.build_nft import build_unit

                compile_nft = partial(build_unit, request.btf, macros, cache, conntrack)
                make_late, unhooked = (
                    partial(_make_late, config, macros, cache),
                    map_fds["nft_unhooked"],
                )
                nft = attach_verdict_probes(
                    config, choice, loader, compile_nft, make_late, report, log, unhooked
                )
                with log.operation("Attaching to nftables"):
                    pollers.append(probes.enter_context(nft))
            modules = {function.module for function in choice.plan.functions} - {""}
            if modules:
                from pypwru.attach.reloaded import watch_reloads

                reloaded = watch_reloads(modules, request, choice, loader, report, log)
                pollers.append(probes.enter_context(reloaded))
            if choice.plan.backends != {Backend.TRACEPOINT}:
                switches = watch_switches(choice.plan.backends, log)
                pollers.append(probes.enter_context(switches))
            log.info("Attached", ignored=len(report.ignored))
            for name, reason in (*report.ignored, *choice.plan.unattachable):
                log.debug("Ignored", function=name, why=reason)
            members = criteria.skb_members, criteria.xdp_members
            names = build_resolver(
                config, reasons, report.targets, *members, rule_source, log, stack
            )
            if fill_capture_points:
                fill_capture_points()
                pollers.append(fill_capture_points)
            if config.max_hits:
                pollers.append(partial(throttle_report.log_new, log, config.max_hits))
            pipeline = Pipeline(config, report.targets, rule_source, names.is_drop)
            rule_source.wait_listed(stop_request.requested)
            # All probes are attached: from here on no event of a packet is missing.
            reader.start()
            log.info("Listening for events..")

            def losses(is_detached: bool) -> dict[str, int]:
                recursion = count_recursion_misses(loader.recursion_misses())
                if not is_detached:  # maps that handlers still write to can't be iterated reliably
                    return recursion
                counters = read_counters(map_fds["counters"])
                return recursion | count_lost_ids(config, backend, counters, map_fds)

            yield Session(
                config,
                names,
                reader,
                packets,
                pipeline,
                report,
                stop_request,
                pollers,
                probes,
                losses,
                map_fds,
                throttle_report,
                loader.run_stats if counts_runs else None,
                loader.hits,
                netns_filter.netns,
            )


# The functions below import modules that only some runs need, so that other runs start faster.


def _verdict_functions() -> Collection[str]:
    from pypwru.attach.judges import verdict_functions

    return verdict_functions()


def _program_types(config: Config) -> Sequence[ProgramKind]:
    if not (config.filter_trace_tc or config.filter_trace_xdp):
        return ()
    from pypwru.attach.tracing import select_program_kinds

    return select_program_kinds(config)


def _disable_unsupported(
    config: Config, choice: BackendPlan, request: TraceRequest, log: Log
) -> tuple[Config, Sequence[ConntrackTypes]]:
    """Disable nftables and conntrack in ``config`` if the kernel lacks what they need.

    Returns:
        The configuration, and the types of conntrack.
    """
    config = disable_nft_without_kprobes(config, choice, log)
    if not config.output_ct:
        return config, ()
    from pypwru.program.conntrack import degrade_conntrack

    return degrade_conntrack(config, request.btf, log)


def _make_late(
    config: Config, macros: Mapping[str, str], cache: Cache, source: VerdictSource
) -> HandlerBuild:
    from pypwru.attach.late import HandlerBuild

    return HandlerBuild(source, config, macros, cache)


def _layout(request: TraceRequest, conntrack: Sequence[ConntrackTypes], cache: Cache) -> str:
    """Return the C text of the kernel structs' layout."""

    def make() -> str:
        from pypwru.program.layout import build_layout

        return build_layout(sources().values(), request.btf, *conntrack)

    if conntrack:  # its types may be a module's, which the cache's key doesn't cover
        return make()
    return cached_layout(request.btf, cache, make)


def _open_packet_data(
    config: Config, map_fds: Mapping[str, int], layout: RecordLayout, stack: ExitStack
) -> PacketDataReader | None:
    """Open the reader of packet data; None if none is captured."""
    if not config.captures_packets:
        return None
    from pypwru.events.packets import open_packet_data

    return stack.enter_context(open_packet_data(config, map_fds, layout))


def _page_constants(request: TraceRequest, for_filters: bool, log: Log) -> Mapping[str, int]:
    """Return the load-time constants with which handlers find page fragments."""
    from pypwru.kernel.pages import PageBases, find_page_bases

    pages = find_page_bases(request.btf)
    if for_filters and pages == PageBases():
        why = "finding page fragments takes CAP_SYS_ADMIN"
        log.warn("Filters match only the linear part of packets", why=why)
    return pages.constants()


def _capture_point_filler(
    config: Config,
    map_fds: Mapping[str, int],
    choice: BackendPlan,
    report: AttachReport,
    reasons: DropReasons,
    log: Log,
) -> Callable[[], None] | None:
    """Return the function that fills the map of capture points; None if there is none."""
    if not config.captures_selected:
        return None
    from pypwru.attach.chosen import open_capture_points

    return open_capture_points(config, map_fds, choice.plan, report.targets, reasons, log)
