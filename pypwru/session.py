"""One session, from a Config to a detached kernel: DESIGN's line as code.

Whoever wants records opens one and takes batches of them: the command line (``run.py``), and
scripts (``api.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    from pypwru.attach.backend import Choice, Search
    from pypwru.attach.judges import Judge
    from pypwru.attach.late import Making
    from pypwru.attach.tracing import ProgramKind
    from pypwru.config import Config
    from pypwru.discovery.names import NameList
    from pypwru.events.packets import Captured, PacketBytes
    from pypwru.events.wire import Wire
    from pypwru.log import Log
    from pypwru.output.columns import Names
    from pypwru.program.conntrack import ConntrackTypes
    from pypwru.signals import Interrupts

Batch = Sequence[Slices]


class Filters(NamedTuple):
    """What is asked for, as far as it can be compiled or read before anything is opened.

    Args:
        packet: of the packet.
        inner: of one inside a tunnel.
        names: of what alone is traced; None for everything.
    """

    packet: Filter
    inner: Inner
    names: NameList | None = None


def compile_filters(config: Config, log: Log) -> Filters:
    """The filters of ``config``.

    Raises:
        FilterError: libpcap can't compile one.
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
    """What is attached: its records, and in the end the account of them.

    First ``live``, then ``stop``; ``rest`` for whoever wants what is left, before ``detach`` and
    once more after it; ``account`` last. Whatever comes between, leaving ``opened`` detaches.

    Args:
        config: of the run, without what can't be had here.
        names: of what is in records.
        reader: the ring.
        packets: the bytes of packets; None where nobody asks for them.
        stages: between it and what is shown.
        report: of what is attached.
        wanted: tells when the end is wanted.
        pollers: look for what may have changed on this machine.
        probes: closed to detach.
        lost: tells what was lost, by cause; some of it only once there are no probes any more,
            which its argument says.
        maps: name -> descriptor.
        throttled: functions that --max-hits held back.
        runs: tells how long and how often handlers ran; None where the kernel doesn't count it.
        hits: tells how often probes on packets were hit, while the kernel counts runs of programs.
        netns: inode of the only network namespace that is traced; 0 for any.
    """

    # Long arguments, since it is all that one session holds.
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
        self._missed: int | None = None  # known once it is detached

    def live(self) -> Iterator[Batch]:
        """What is to be shown, as it comes, also empty batches: until the end is wanted, or as many
        were given as are wanted.
        """
        yield from self._shown(drain(self._reader, self._wanted, self._pollers))

    def rest(self) -> Iterator[Batch]:
        """What is left on the ring; once detached, also what is held until its time comes."""
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
        """What a record tells of its packet's bytes; to be asked once for each record, in order."""
        return self._packets.take(record) if self._packets else None

    @property
    def is_full(self) -> bool:
        """Whether as many were given as are wanted."""
        return self._limit.reached

    def stop(self) -> None:
        """Have the handlers write no more."""
        self._reader.stop()

    def detach(self) -> None:
        """Let go of the kernel's functions; a second time does nothing."""
        if self._missed is None:
            self._missed = sum(tell() for tell in self._report.missed)
            self._probes.close()

    def watch(self, fd: int) -> None:
        """Have ``live`` give a batch, if an empty one, also when ``fd`` becomes readable."""
        self._reader.watch(fd)

    def poll(self, look: Callable[[], None]) -> None:
        """Have ``live`` call ``look`` about twice a second, too."""
        self._pollers.append(look)

    def counters(self) -> Counters:
        """What the handlers counted so far."""
        return read_counters(self._maps["counters"])

    def account(self, shown: int) -> dict[str, int]:
        """Where every sight went, once detached; before, as far as it can be told.

        Args:
            shown: how many of those that were given were shown.
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
    """A session, once all is attached; detached on the way out.

    Args:
        wanted: tells when the end is wanted, also while it attaches.

    Raises:
        PypwruError: whatever stands in the way; everything is detached.
    """
    # Long, since it shows in one place in which order the kernel is touched, and let go of.
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
            choice = choose(config.backend, request, cache)
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
        # Before anything is seen: what a rule was before its namespace was listened to isn't told.
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
            # All are attached: a packet from here on has no sight that is missing.
            reader.start()
            log.info("Listening for events..")

            def lost(is_over: bool) -> dict[str, int]:
                skipped = lost_by_recursion(loader.recursion_misses())
                if not is_over:  # maps that are written to can't be gone through
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


# What only some runs need is imported by them alone: the rest starts without it.


def _program_kinds(config: Config) -> Sequence[ProgramKind]:
    if not (config.filter_trace_tc or config.filter_trace_xdp):
        return ()
    from pypwru.attach.tracing import program_kinds

    return program_kinds(config)


def _where_possible(
    config: Config, choice: Choice, request: Search, log: Log
) -> tuple[Config, Sequence[ConntrackTypes]]:
    """``config`` without nftables and conntrack where the kernel lacks what they need; the types
    of conntrack.
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
    """The text of the layout."""

    def make() -> str:
        from pypwru.program.layout import layout

        return layout(sources().values(), request.btf, *conntrack)

    if conntrack:  # may be a module's
        return make()
    return kept_layout(request.btf, cache, make)


def _packet_bytes(
    config: Config, shared: Mapping[str, int], form: Wire, stack: ExitStack
) -> PacketBytes | None:
    """The reader of packet data."""
    if not config.captures:
        return None
    from pypwru.events.packets import packets_where_asked

    return stack.enter_context(packets_where_asked(config, shared, form))


def _pages(request: Search, for_filters: bool, log: Log) -> Mapping[str, int]:
    """The constants by which handlers find page fragments."""
    from pypwru.kernel.pages import Pages, find_pages

    pages = find_pages(request.btf)
    if for_filters and pages == Pages():
        why = "finding page fragments takes CAP_SYS_ADMIN"
        log.warn("Filters see the linear part of packets alone", why=why)
    return pages.constants()


def _chosen(
    config: Config,
    shared: Mapping[str, int],
    choice: Choice,
    report: Attached,
    reasons: Reasons,
    log: Log,
) -> Callable[[], None] | None:
    """What fills the map of capture points once all is attached; None where there is none."""
    if not config.captures_some:
        return None
    from pypwru.attach.chosen import chosen_where_asked

    return chosen_where_asked(config, shared, choice.plan, report.names, reasons, log)
