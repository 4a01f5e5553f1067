"""Run a session for the command line: write its records until a stop, the limit, or an error."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pypwru.cli.outputs import (
    open_event_sink,
    open_pcap_target,
    open_stats_file,
    require_distinct_outputs,
)
from pypwru.errors import OutputClosed, OutputError
from pypwru.files.sink import Sink, touch_ready_file
from pypwru.kernel.capabilities import require_capabilities
from pypwru.output.columns import columns
from pypwru.output.printer import Formatter, Printer
from pypwru.packets.tracker import without_free_records
from pypwru.phases.plan import compile_filters
from pypwru.session import Session, open_session
from pypwru.signals import StopRequest, blocked_signals, stop_on_signals
from pypwru.statistics.runner import StatsRunner, handled_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pypwru.config import Config
    from pypwru.journey.writer import JourneyFormat, JourneyWriter
    from pypwru.log import Log
    from pypwru.pcap.writer import PcapOutput, PcapSetup
    from pypwru.wire.record import RawRecord


class StopReason(NamedTuple):
    """The reason for which a trace stops.

    Args:
        message: of the log.
        prints_remaining: whether records that are still on the ring are printed.
    """

    message: str
    prints_remaining: bool


SIGNAL = StopReason("Received signal, exiting program..", True)
LIMIT = StopReason("Printed events, exiting program..", False)
CLOSED = StopReason("Standard output has no reader, exiting program..", False)
FAILED = StopReason("An output can't be written, exiting program..", False)


class Output(Protocol):
    """A consumer of records: the printer of text or JSON, the capture file, statistics."""

    def show(self, batch: Sequence[RawRecord]) -> None:
        """Consume ``batch``, which may be empty.

        Raises:
            OutputClosed: the reader closed the output.
            OutputError: the output can't be written.
        """


class Dispatcher:
    """Passes records to all outputs and counts the events that were output.

    Args:
        outputs: each gets every batch, without skb free records; the trace stops if the reader of
            one closed it, or if one can't be written.
        observers: get the events that were output, with the skb free records.
        on_batch: called after each batch, also an empty one, with the number of events so far; an
            OutputClosed or OutputError that it raises stops the trace.
        has_free_records: whether batches contain skb free records.
        pcap: an output that gets the skb free records, too, and each batch before the others.

    Attributes:
        count: events that were output.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        observers: Sequence[Output] = (),
        on_batch: Callable[[int], object] = lambda count: None,
        has_free_records: bool = True,
        pcap: Output | None = None,
    ) -> None:
        self._outputs = outputs
        self._pcap = pcap
        self._observers = observers
        self._on_batch = on_batch
        self._has_free_records = has_free_records
        self.count = 0
        self.failure: OutputError | None = None
        """The error of the first output that can't be written; None for none."""

    def consume(self, batches: Iterable[Sequence[RawRecord]]) -> bool:
        """Output ``batches``; return False if an output was closed or can't be written."""
        return all(self.attempt(partial(self._dispatch, batch)) for batch in batches)

    def attempt(self, action: Callable[[], object]) -> bool:
        """Call ``action``; return False if an output was closed or can't be written."""
        try:
            action()
        except OutputClosed:
            return False
        except OutputError as error:
            self.failure = self.failure or error
            return False
        return True

    def _dispatch(self, batch: Sequence[RawRecord]) -> None:
        events = without_free_records(batch) if self._has_free_records else batch
        try:
            if self._pcap:
                self._pcap.show(batch)
            for output in self._outputs:
                output.show(events)
        except (OutputClosed, OutputError) as error:
            self._notify_observers(events[: error.events_written], error.events_written)
            raise
        self._notify_observers(batch, len(events))
        self._on_batch(self.count)

    def _notify_observers(self, batch: Sequence[RawRecord], events: int) -> None:
        self.count += events
        for observer in self._observers:
            observer.show(batch)


def run(config: Config, log: Log, command: str) -> None:
    """Trace until a stop request, --output-limit-lines, or the end of an output's reader.

    Args:
        config: of the run.
        log: of the run.
        command: the command line as typed, for the capture file.

    Raises:
        PypwruError: the trace can't start or go on; everything is detached.
    """
    # Long, to show in one place the order in which outputs and probes are opened and closed.
    filters = compile_filters(config, log)
    require_capabilities()  # before any file is created
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        next_signal = stack.enter_context(blocked_signals(*handled_signals(config)))
        stats_file = open_stats_file(config)
        sink = open_event_sink(config, stop, log, stack) if config.prints_events else None
        target = open_pcap_target(config, stop, log, stack, command)
        require_distinct_outputs(config, sink, target)
        session = stack.enter_context(open_session(config, filters, log, stop))
        config = session.config  # the only one from here on
        journeys = _make_journeys(session, sink) if sink and config.output_journey else None
        text = _make_printer(session, sink) if sink and not journeys else None
        pcap = _make_pcap_output(session, target, log) if target else None
        stats_runner = StatsRunner(session, stats_file, next_signal, log)
        outputs = [text] if text else []
        observers: list[Output] = [one for one in (journeys, *stats_runner.observers) if one]
        sinks = [one for one in (sink, target and target.target) if one]

        def on_batch(count: int) -> None:
            for one in sinks:
                one.require_reader()
            stats_runner.on_batch(count)

        dispatcher = Dispatcher(outputs, observers, on_batch, session.needs.free_events, pcap)

        def start_outputs() -> None:
            if pcap:
                pcap.begin()
            if config.ready_file:
                touch_ready_file(config.ready_file, stop)
            if text:
                text.print_header()

        with stats_runner.live_table(stop):
            can_output = dispatcher.attempt(start_outputs) and dispatcher.consume(session.batches())
        reason = _stop_reason(session, dispatcher, can_output, stop)
        session.stop()
        if reason.prints_remaining and can_output:
            can_output = dispatcher.consume(session.drain_remaining())
        log.info(reason.message, **({"count": dispatcher.count} if reason is LIMIT else {}))
        session.detach()
        if (
            reason.prints_remaining and can_output
        ):  # records of handlers that ran until the probes were removed
            can_output = dispatcher.consume(session.drain_remaining())
        if journeys and can_output:
            dispatcher.attempt(partial(journeys.finish, is_limit_reached=reason is LIMIT))
        summary = session.summary(journeys.count if journeys else dispatcher.count)
        summary |= journeys.summarize() if journeys else {}
        if pcap:
            dispatcher.attempt(partial(pcap.close, summary["lost_packets"]))
            summary |= pcap.summarize()
        dispatcher.attempt(partial(stats_runner.finish, summary))
        log.info("Done", **summary)
        if failure := dispatcher.failure or (pcap and pcap.failure):
            raise failure


def _make_printer(session: Session, sink: Sink) -> Printer:
    """Return the printer of a session's records, as text or JSON."""
    enabled_columns = columns(session.config, session.layout)
    formatter: Formatter
    if session.config.output_json:
        from pypwru.output.json import JsonFormatter

        formatter = JsonFormatter(enabled_columns)
    else:
        from pypwru.output.text import TextFormatter

        formatter = TextFormatter(enabled_columns)
    return Printer(formatter, session.names, sink.write_events, session.layout)


def _make_journeys(session: Session, sink: Sink) -> JourneyWriter:
    """Return the printer of a session's packets, one by one."""
    from pypwru.journey.json import JourneyJson as JourneyJson
    from pypwru.journey.text import JourneyText as JourneyText
    from pypwru.journey.writer import JourneyWriter

    config, layout, names = session.config, session.layout, session.names
    enabled_columns, has_flags = columns(config, layout), config.output_tcp_flags
    formatter: JourneyFormat
    if config.output_json:
        formatter = JourneyJson(layout, enabled_columns, names, has_tcp_flags=has_flags)
    else:
        formatter = JourneyText(
            layout, enabled_columns, names, has_tcp_flags=has_flags, nft_output=config.output_nft
        )
    return JourneyWriter(layout, names, session.targets, formatter, sink.write_events)


def _make_pcap_output(session: Session, target: PcapSetup, log: Log) -> PcapOutput:
    """Return the writer of a session's captured packets."""
    from pypwru.output.packet_comment import CommentRenderer
    from pypwru.pcap.select import CaptureSelector
    from pypwru.pcap.writer import PcapOutput

    config, layout, names = session.config, session.layout, session.names
    take_data = session.packet_data
    selector = CaptureSelector(config.capture_when, layout, names, session.targets, take_data)
    comment = CommentRenderer(layout, names).render
    has_other_output = config.prints_events or config.has_statistics
    return PcapOutput(
        selector, names, take_data, target, comment, log, is_only_output=not has_other_output
    )


def _stop_reason(
    session: Session, dispatcher: Dispatcher, can_output: bool, stop: StopRequest
) -> StopReason:
    """Return why the output stops.

    On a stop request, OutputClosed means that the reader was too slow, not that it is gone.
    """
    if dispatcher.failure:
        return FAILED
    if not can_output:
        return SIGNAL if stop.received else CLOSED
    return LIMIT if session.limit_reached else SIGNAL
