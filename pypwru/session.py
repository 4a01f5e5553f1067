"""A tracing session: Config -> search -> compile -> load -> attach -> records -> detach.

A session yields batches of records to the command line (``run.py``) and to the Python API
(``api/trace.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pypwru.attach.attach import NOUNS, attached
from pypwru.attach.attached import Attached
from pypwru.attach.backend import choose, nft_where_possible
from pypwru.attach.throttled import NONE, Throttled, throttling
from pypwru.btf.load import require_own_types
from pypwru.cache import Cache
from pypwru.config import Backend
from pypwru.events import ring
from pypwru.events.counters import (
    Counters,
    account,
    forgotten,
    held_back,
    lost_by_recursion,
    read_counters,
    thrown_out,
)
from pypwru.events.drain import drain, rest
from pypwru.events.identities import packet_count
from pypwru.events.limit import Limit
from pypwru.events.record import Slices
from pypwru.events.wire import wire
from pypwru.filter.compiler import Filter, compile_filter
from pypwru.filter.wanted import Inner, compile_inner, compile_wanted
from pypwru.kernel.bpf import require_architecture
from pypwru.kernel.bpf_objects import Runs, runs_counted
from pypwru.kernel.lockdown import require_kernel_reads
from pypwru.kernel.place import find_place
from pypwru.kernel.switches import watched_switches
from pypwru.output.naming import names_of
from pypwru.output.nft_source import nft_source
from pypwru.output.stages import Stages
from pypwru.program import maps
from pypwru.program.build import build
from pypwru.program.defines import defines
from pypwru.program.kept_layout import kept_layout
from pypwru.program.load import Loader
from pypwru.program.shares import shares
from pypwru.program.source import sources
from pypwru.resolve.reasons import Reasons
from pypwru.search import search, tell_added, tell_missing, tell_refused

if TYPE_CHECKING:
    from pypwru.attach.backend import Choice
    from pypwru.attach.judges import Judge
    from pypwru.attach.late import Making
    from pypwru.attach.tracing import ProgramKind
    from pypwru.config import Config
    from pypwru.discovery.names import NameList
    from pypwru.events.packets import Captured, PacketBytes
    from pypwru.events.wire import Wire
    from pypwru.log import Log
    from pypwru.program.conntrack import ConntrackTypes
    from pypwru.resolve.event_names import Names
    from pypwru.search import Search
    from pypwru.signals import Interrupts

Batch = Sequence[Slices]


class Filters(NamedTuple):
    """The parts of a Config that are compiled or read before the kernel is touched.

    Args:
        packet: compiled pcap filter.
        inner: compiled pcap filters of the packet inside a tunnel.
        names: the only functions to trace (--functions); None for no such list.
    """

    packet: Filter
    inner: Inner
    names: NameList | None = None


def compile_filters(config: Config, log: Log) -> Filters:
    """Compile the pcap filters of ``config`` and read the list of --functions.

    Raises:
        FilterError: libpcap can't compile a filter.
        ListError: --functions can't be read.
    """
    with log.doing("Compiling the filter"):
        packet = compile_filter(config.pcap_filter)
        inner = compile_inner(config)
    log.debug("Compiled the filter", classic=packet)
    if config.functions is None:
        return Filters(packet, inner)
    from pypwru.discovery.names import read_names

    return Filters(packet, inner, read_names(config.functions))


class Session:
    """The attached probes of a run, their records and counters.

    Order of calls: ``live``, ``stop``, ``rest`` for the remaining records, ``detach``, ``rest``
    again, ``account``. Leaving ``opened`` detaches in any case.

    Args:
        config: of the run, without the features that this kernel lacks.
        names: resolver of the numbers in records.
        reader: of the ring buffer.
        packets: reader of packet data; None if none is captured.
        stages: the pipeline between the reader and the outputs.
        report: of what is attached; grows while functions are attached later.
        wanted: the stop request.
        pollers: called about twice a second, to notice changes of the system.
        probes: closed to detach.
        lost: returns losses by cause. Its argument is whether all probes are detached: only then
            the maps can be counted.
        maps: name -> file descriptor.
        throttled: counts the events that --max-hits suppressed, by function.
        runs: returns the run time and run count of each handler; None if the kernel doesn't count
            them.
        hits: returns the number of hits of probes on packets, if the kernel counts runs.
        netns: inode of the only network namespace that is traced; 0 for all.

    Attributes:
        traced: address -> name of all attached functions, tracepoints and programs; grows.
    """

    # Many arguments, since this is all the state of a session.
    def __init__(
        self,
        config: Config,
        names: Names,
        reader: ring.Ring,
        packets: PacketBytes | None,
        stages: Stages,
        report: Attached,
        wanted: Interrupts,
        pollers: list[Callable[[], None]],
        probes: ExitStack,
        lost: Callable[[bool], dict[str, int]],
        maps: Mapping[str, int],
        throttled: Throttled = NONE,
        runs: Callable[[], Mapping[str, Runs]] | None = None,
        hits: Callable[[], int] = lambda: 0,
        netns: int = 0,
    ) -> None:
        self.config = config
        self.netns = netns
        self.names = names
        self.traced = report.names
        self.runs = runs
        self.hits = hits
        self._reader = reader
        self._packets = packets
        self._stages = stages
        self._report = report
        self._wanted = wanted
        self._pollers = pollers
        self._probes = probes
        self._lost = lost
        self._maps = maps
        self.throttled = throttled
        self._count = packet_count(wire(config))
        self._limit = Limit(config.output_limit_lines)
        self._missed: int | None = None  # known once all is detached

    def live(self) -> Iterator[Batch]:
        """Yield batches of records as they arrive, also empty ones.

        Ends on a stop request, or after --output-limit-lines events.
        """
        yield from self._shown(drain(self._reader, self._wanted, self._pollers))

    def rest(self) -> Iterator[Batch]:
        """Yield the remaining records of the ring; once detached, also those held by the stages."""
        yield from self._shown(rest(self._reader))
        if self._missed is not None and not self.is_full:
            yield from map(self._limit.cut, self._stages.finish())

    def _shown(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self._packets:
                self._packets.collect()
            if self._count:
                self._count.add(batch)
            yield from map(self._limit.cut, self._stages.take(batch) or [batch[:0]])
            if self._limit.reached:
                return

    def take(self, record: Slices) -> Captured | None:
        """Return the packet data of ``record``; must be called once for each record, in order.

        Returns:
            None if no packet data was captured for it.
        """
        return self._packets.take(record) if self._packets else None

    @property
    def is_full(self) -> bool:
        """Whether --output-limit-lines events were yielded."""
        return self._limit.reached

    def stop(self) -> None:
        """Stop the handlers from writing records; the probes stay attached."""
        self._reader.stop()

    def detach(self) -> None:
        """Detach all probes; a second call does nothing."""
        if self._missed is None:
            self._missed = sum(tell() for tell in self._report.missed)
            self._probes.close()

    def watch(self, fd: int) -> None:
        """Have ``live`` yield a batch, possibly empty, when ``fd`` becomes readable."""
        self._reader.watch(fd)

    def poll(self, look: Callable[[], None]) -> None:
        """Have ``live`` call ``look`` about twice a second."""
        self._pollers.append(look)

    def counters(self) -> Counters:
        """Return the counters of the handlers so far, summed over CPUs."""
        return read_counters(self._maps["counters"])

    def account(self, shown: int) -> dict[str, int]:
        """Return what became of every event, by counter; complete once detached.

        Args:
            shown: number of events that were output.
        """
        counted = read_counters(self._maps["counters"])
        is_over, missed = self._missed is not None, self._missed
        if missed is None:
            missed = sum(tell() for tell in self._report.missed)
        lost = self._lost(is_over) | {"missed": missed} | self._stages.lost()
        if is_over:
            lost |= thrown_out(counted, self._maps)
        aside = held_back(self.config, counted)
        packets = self._count.total if self._count else None
        found = account(shown, packets, counted, aside, lost, self._report)
        return found | (self._packets.account(counted) if self._packets else {})


@contextmanager
def opened(config: Config, filters: Filters, log: Log, wanted: Interrupts) -> Iterator[Session]:
    """Attach everything and open a session; detach on the way out.

    Args:
        config: of the run.
        filters: compiled from ``config``.
        log: of the run.
        wanted: the stop request, also checked while attaching.

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
        place = find_place(config.filter_netns, config.filter_ifname, stack, log)
        kinds = _program_kinds(config)
        if config.kernel_btf is not None:
            require_own_types(config.kernel_btf, cache)
        with log.doing("Looking for functions that take a packet"):
            request = search(config, cache, filters.names)
            asked = compile_wanted(config, filters.packet, filters.inner, place, request.btf)
            choice = choose(config.backend, request, cache, _verdict_functions)
        backend = choice.plan.backend
        if choice.why:
            log.info("Chose backend", backend=backend.value)
            log.debug("Chose backend", why=choice.why)
        tell_missing(request, choice.plan, log)
        tell_added(request, choice.plan, log)
        tell_refused(request, choice.plan, log)
        config, conntrack = _where_possible(config, choice, request, log)
        form = wire(config)
        counts_runs = config.sums_up and stack.enter_context(runs_counted())
        macros = defines(config, choice.plan.backends, asked, form)
        with log.doing("Compiling the handlers"):
            bytecode = build(_layout(request, conntrack, cache), macros, cache)
        more = ("gathered",) if asked.needs_fragments else ()
        shared = maps.create(config, stack, more)
        reader = stack.enter_context(
            ring.opened(shared["events"], config.buffer_size, shared["reader"], form)
        )
        # Subscribe to nftables changes before the first probe fires: a rule that was replaced
        # before the subscription can't be named.
        texts = stack.enter_context(nft_source(config, shared, choice.symbols, place.netns, log))
        packets = _packet_bytes(config, shared, form, stack)
        reads_pages = config.captures or asked.needs_fragments
        pages = _pages(request, asked.needs_fragments, log) if reads_pages else {}
        reasons = Reasons(request.btf, cache=cache)
        constants = {**asked.constants(), **pages, **shares(config), **reasons.constants()}
        loader = Loader(bytecode, asked.bodies(), constants, shared, stack)
        report = Attached()
        with ExitStack() as probes:
            pollers: list[Callable[[], None]] = []
            chosen = _chosen(config, shared, choice, report, reasons, log)
            throttled = probes.enter_context(throttling(config, shared, report.names, log))
            log.info(f"Attaching {NOUNS[backend]}", via=backend.value)
            with log.doing("Attaching"):
                probes.enter_context(attached(choice, loader, report, log, wanted.requested))
            if kinds:
                from pypwru.attach.tracing import traced_programs

                programs = traced_programs(kinds, loader, log, report, wanted.requested)
                pollers.append(probes.enter_context(programs).poll)
            if not (report.functions or wanted.requested()):
                from pypwru.discovery.unmatched import nothing_attached

                raise nothing_attached(report.ignored)
            if config.asks_nft:
                from pypwru.attach.nft import nft_probes
                from pypwru.program.build_nft import build_unit

                compile_nft = partial(build_unit, request.btf, macros, cache, conntrack)
                late, unhooked = partial(_made_late, config, macros, cache), shared["nft_unhooked"]
                nft = nft_probes(config, choice, loader, compile_nft, late, report, log, unhooked)
                with log.doing("Attaching to nftables"):
                    pollers.append(probes.enter_context(nft))
            modules = {function.module for function in choice.plan.functions} - {""}
            if modules:
                from pypwru.attach.reloaded import reloaded_modules

                again = reloaded_modules(modules, request, choice, loader, report, log)
                pollers.append(probes.enter_context(again))
            if choice.plan.backends != {Backend.TRACEPOINT}:
                switches = watched_switches(choice.plan.backends, log)
                pollers.append(probes.enter_context(switches))
            log.info("Attached", ignored=len(report.ignored))
            for name, why in (*report.ignored, *choice.plan.unattachable):
                log.debug("Ignored", function=name, why=why)
            members = asked.skb_members, asked.xdp_members
            names = names_of(config, reasons, report.names, *members, texts, log, stack)
            if chosen:
                chosen()
                pollers.append(chosen)
            if config.max_hits:
                pollers.append(partial(throttled.poll, log, config.max_hits))
            stages = Stages(config, report.names, texts, names.drops)
            texts.wait_listed(wanted.requested)
            # All probes are attached: from here on no event of a packet is missing.
            reader.start()
            log.info("Listening for events..")

            def lost(is_over: bool) -> dict[str, int]:
                skipped = lost_by_recursion(loader.recursion_misses())
                if not is_over:  # maps that handlers still write to can't be iterated reliably
                    return skipped
                counted = read_counters(shared["counters"])
                return skipped | forgotten(config, backend, counted, shared)

            yield Session(
                config,
                names,
                reader,
                packets,
                stages,
                report,
                wanted,
                pollers,
                probes,
                lost,
                shared,
                throttled,
                loader.runs if counts_runs else None,
                loader.hits,
                place.netns,
            )


# The functions below import modules that only some runs need, so that other runs start faster.


def _verdict_functions() -> Collection[str]:
    from pypwru.attach.judges import verdict_functions

    return verdict_functions()


def _program_kinds(config: Config) -> Sequence[ProgramKind]:
    if not (config.filter_trace_tc or config.filter_trace_xdp):
        return ()
    from pypwru.attach.tracing import program_kinds

    return program_kinds(config)


def _where_possible(
    config: Config, choice: Choice, request: Search, log: Log
) -> tuple[Config, Sequence[ConntrackTypes]]:
    """Disable nftables and conntrack in ``config`` if the kernel lacks what they need.

    Returns:
        The configuration, and the types of conntrack.
    """
    config = nft_where_possible(config, choice, log)
    if not config.output_ct:
        return config, ()
    from pypwru.program.conntrack import conntrack_where_possible

    return conntrack_where_possible(config, request.btf, log)


def _made_late(config: Config, macros: Mapping[str, str], cache: Cache, judge: Judge) -> Making:
    from pypwru.attach.late import Making

    return Making(judge, config, macros, cache)


def _layout(request: Search, conntrack: Sequence[ConntrackTypes], cache: Cache) -> str:
    """Return the C text of the kernel structs' layout."""

    def make() -> str:
        from pypwru.program.layout import layout

        return layout(sources().values(), request.btf, *conntrack)

    if conntrack:  # its types may be a module's, which the cache's key doesn't cover
        return make()
    return kept_layout(request.btf, cache, make)


def _packet_bytes(
    config: Config, shared: Mapping[str, int], form: Wire, stack: ExitStack
) -> PacketBytes | None:
    """Open the reader of packet data; None if none is captured."""
    if not config.captures:
        return None
    from pypwru.events.packets import packets_where_asked

    return stack.enter_context(packets_where_asked(config, shared, form))


def _pages(request: Search, for_filters: bool, log: Log) -> Mapping[str, int]:
    """Return the load-time constants with which handlers find page fragments."""
    from pypwru.kernel.pages import Pages, find_pages

    pages = find_pages(request.btf)
    if for_filters and pages == Pages():
        why = "finding page fragments takes CAP_SYS_ADMIN"
        log.warn("Filters match only the linear part of packets", why=why)
    return pages.constants()


def _chosen(
    config: Config,
    shared: Mapping[str, int],
    choice: Choice,
    report: Attached,
    reasons: Reasons,
    log: Log,
) -> Callable[[], None] | None:
    """Return the function that fills the map of capture points; None if there is none."""
    if not config.captures_some:
        return None
    from pypwru.attach.chosen import chosen_where_asked

    return chosen_where_asked(config, shared, choice.plan, report.names, reasons, log)
