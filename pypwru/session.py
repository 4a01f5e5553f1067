"""A tracing session: plan -> load -> attach -> records -> detach, each phase of ``phases/``.

A session yields batches of records to the command line (``cli/run.py``) and to the Python API
(``api/trace.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypwru.cache import Cache
from pypwru.names.resolver import build_resolver
from pypwru.output.pipeline import Pipeline
from pypwru.packets.limit import EventLimit
from pypwru.phases.account import Account
from pypwru.phases.attach import Attached, attach_probes
from pypwru.phases.load import Loaded, load
from pypwru.phases.plan import Filters, Plan, make_plan
from pypwru.ring.drain import drain, drain_remaining
from pypwru.wire.record import RawRecord

if TYPE_CHECKING:
    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.names.event_names import NameResolver
    from pypwru.pcap.packet_data import PacketCapture
    from pypwru.signals import StopRequest

Batch = Sequence[RawRecord]


class Session:
    """The attached probes of a run, their records and counters.

    Order of calls: ``batches``, ``stop``, ``drain_remaining`` for the remaining records,
    ``detach``, ``drain_remaining`` again, ``summary``. Leaving ``open_session`` detaches in any
    case.

    Args:
        plan, loaded, attached: results of the phases.
        names: resolver of the numbers in records.
        pipeline: between the reader and the outputs.
        stop_request: ends ``batches``.
        probes: closed to detach.

    Attributes:
        config: of the run, without the features that this kernel lacks.
        needs: of ``config``.
        layout: the layout of records.
        names: resolver of the numbers in records.
        netns: inode of the only network namespace that is traced; 0 for all.
        targets: the attached functions, tracepoints and programs.
        throttle_report: counts the events that --max-hits suppressed, by function.
        hits: returns the number of hits of probes on packets, if the kernel counts runs.
        run_stats: returns the run time and run count of each handler; None if the kernel doesn't
            count them.
        handler_counters: returns the counters of the handlers so far, summed over CPUs.
    """

    def __init__(
        self,
        plan: Plan,
        loaded: Loaded,
        attached: Attached,
        names: NameResolver,
        pipeline: Pipeline,
        stop_request: StopRequest,
        probes: ExitStack,
    ) -> None:
        self.config = plan.config
        self.needs = plan.needs
        self.layout = loaded.layout
        self.names = names
        self.netns = plan.netns
        self.targets = attached.report.targets
        self.throttle_report = attached.throttle_report
        self.hits = loaded.loader.hits
        self.run_stats = loaded.loader.run_stats if loaded.counts_runs else None
        self._account = Account(plan, loaded, attached.report)
        self.handler_counters = self._account.handler_counters
        self._reader = loaded.reader
        self._packets = loaded.packets
        self._pollers = attached.pollers
        self._pipeline = pipeline
        self._stop_request = stop_request
        self._probes = probes
        self._limit = EventLimit(plan.config.output_limit_lines)

    def batches(self) -> Iterator[Batch]:
        """Yield batches of records as they arrive, also empty ones.

        Ends on a stop request, or after --output-limit-lines events.
        """
        yield from self._process(drain(self._reader, self._stop_request, self._pollers))

    def drain_remaining(self) -> Iterator[Batch]:
        """Yield the remaining records of the ring; once detached, also those that stages hold."""
        yield from self._process(drain_remaining(self._reader))
        if self._account.is_detached and not self.limit_reached:
            yield from map(self._limit.take, self._pipeline.finish())

    def _process(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self._packets:
                self._packets.read_chunks()
            self._account.add(batch)
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
        if not self._account.is_detached:
            self._account.detach()
            self._probes.close()

    def watch(self, fd: int) -> None:
        """Have ``batches`` yield a batch, possibly empty, when ``fd`` becomes readable."""
        self._reader.watch(fd)

    def add_poller(self, poller: Callable[[], None]) -> None:
        """Have ``batches`` call ``poller`` about twice a second."""
        self._pollers.append(poller)

    def summary(self, shown: int) -> dict[str, int]:
        """Return what became of every event, by counter; complete once detached.

        Args:
            shown: number of events that were output.
        """
        return self._account.summarize(shown, self._pipeline.lost())


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
    cache, stop_requested = Cache(log=log), stop_request.requested
    with ExitStack() as stack:
        plan = make_plan(config, filters, cache, stack, log)
        needs = plan.needs
        loaded = load(plan, cache, stack, log)
        with ExitStack() as probes:
            attached = attach_probes(plan, loaded, cache, stop_requested, probes, log)
            targets, rules = attached.report.targets, loaded.rule_source
            members = plan.criteria.skb_members, plan.criteria.xdp_members
            names = build_resolver(
                loaded.reasons,
                targets,
                *members,
                rules,
                log,
                stack,
                needs_symbols=needs.symbols,
                needs_netns_names=needs.netns_names,
            )
            pipeline = Pipeline(
                needs, loaded.layout, plan.nft_criteria, targets, rules, names.is_drop
            )
            rules.wait_listed(stop_requested)
            # All probes are attached: from here on no event of a packet is missing.
            loaded.reader.start()
            log.info("Listening for events..")
            yield Session(plan, loaded, attached, names, pipeline, stop_request, probes)
