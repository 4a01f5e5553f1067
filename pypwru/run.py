"""Run a session for the command line: write its records until a stop, the limit, or an error."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pypwru.errors import OutputClosed, OutputError
from pypwru.events.lives import sights
from pypwru.kernel.capabilities import require_capabilities
from pypwru.output.columns import columns
from pypwru.output.printer import Form, Printer
from pypwru.output.sink import Sink, make_empty, open_output
from pypwru.session import Session, compile_filters, opened
from pypwru.signals import Interrupts, interrupts, kept_back
from pypwru.statistics.telling import Telling, asking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pypwru.config import Config
    from pypwru.events.record import Slices
    from pypwru.log import Log
    from pypwru.output.journey.journeys import Journeys
    from pypwru.output.pcap.output import Opened, PcapOutput
    from pypwru.statistics.file import StatsFile


class End(NamedTuple):
    """The reason for which a trace stops.

    Args:
        message: of the log.
        wants_rest: whether records that are still on the ring are printed.
    """

    message: str
    wants_rest: bool


SIGNAL = End("Received signal, exiting program..", True)
LIMIT = End("Printed events, exiting program..", False)
CLOSED = End("Standard output has no reader, exiting program..", False)
FAILED = End("An output can't be written, exiting program..", False)


class Output(Protocol):
    """A consumer of records: the printer of text or JSON, the capture file, statistics."""

    def show(self, batch: Sequence[Slices]) -> None:
        """Consume ``batch``, which may be empty.

        Raises:
            OutputClosed: the reader closed the output.
            OutputError: the output can't be written.
        """


class Shown:
    """Passes records to all outputs and counts the events that were output.

    Args:
        outputs: each gets every batch, without skb free records; the trace stops if the reader of
            one closed it, or if one can't be written.
        followers: get the events that were output, with the skb free records.
        between: called after each batch, also an empty one, with the number of events so far; an
            OutputClosed or OutputError that it raises stops the trace.
        has_ends: whether batches contain skb free records.

    Attributes:
        count: events that were output.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        followers: Sequence[Output] = (),
        between: Callable[[int], object] = lambda count: None,
        has_ends: bool = True,
    ) -> None:
        self._outputs = outputs
        self._followers = followers
        self._between = between
        self._has_ends = has_ends
        self.count = 0
        self.failure: OutputError | None = None
        """The error of the first output that can't be written; None for none."""

    def all(self, batches: Iterable[Sequence[Slices]]) -> bool:
        """Output ``batches``; return False if an output was closed or can't be written."""
        return all(self.attempt(partial(self._show, batch)) for batch in batches)

    def attempt(self, act: Callable[[], object]) -> bool:
        """Call ``act``; return False if an output was closed or can't be written."""
        try:
            act()
        except OutputClosed:
            return False
        except OutputError as error:
            self.failure = self.failure or error
            return False
        return True

    def _show(self, batch: Sequence[Slices]) -> None:
        seen = sights(batch) if self._has_ends else batch
        try:
            for output in self._outputs:
                output.show(seen)
        except (OutputClosed, OutputError) as stopped:
            self._follow(seen[: stopped.events], stopped.events)
            raise
        self._follow(batch, len(seen))
        self._between(self.count)

    def _follow(self, batch: Sequence[Slices], events: int) -> None:
        self.count += events
        for follower in self._followers:
            follower.show(batch)


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
        stop = stack.enter_context(interrupts())
        asked = stack.enter_context(kept_back(*asking(config)))
        file = _statistics_file(config)
        sink = stack.enter_context(open_output(config, stop, log)) if config.prints else None
        target = _pcap_target(config, stop, log, stack, command)
        _require_distinct(config, sink, target)
        session = stack.enter_context(opened(config, filters, log, stop))
        journeys = _journeys(session, sink) if sink and config.output_journey else None
        text = _printer(session, sink) if sink and not journeys else None
        pcap = _pcap(session, target, log) if target else None
        telling = Telling(config, session, file, asked, log)
        outputs = [output for output in (pcap, text) if output]
        followers: list[Output] = [one for one in (journeys, *telling.followers) if one]
        sinks = [one for one in (sink, target and target.target) if one]

        def between(count: int) -> None:
            for one in sinks:
                one.require_reader()
            telling.look(count)

        shown = Shown(outputs, followers, between, config.follows_ends)

        def begin() -> None:
            if pcap:
                pcap.begin()
            if config.ready_file:
                make_empty(config.ready_file, stop)
            if text:
                text.print_header()

        with telling.live(stop):
            goes_on = shown.attempt(begin) and shown.all(session.live())
        end = _end(session, shown, goes_on, stop)
        session.stop()
        if end.wants_rest and goes_on:
            goes_on = shown.all(session.rest())
        log.info(end.message, **({"count": shown.count} if end is LIMIT else {}))
        session.detach()
        if end.wants_rest and goes_on:  # records of handlers that ran until the probes were removed
            goes_on = shown.all(session.rest())
        if journeys and goes_on:
            shown.attempt(partial(journeys.end, is_cut=end is LIMIT))
        account = session.account(journeys.count if journeys else shown.count)
        account |= journeys.account() if journeys else {}
        if pcap:
            shown.attempt(partial(pcap.close, account["lost_packets"]))
            account |= pcap.account()
        shown.attempt(partial(telling.finish, account))
        log.info("Done", **account)
        if failure := shown.failure or (pcap and pcap.failure):
            raise failure


def _statistics_file(config: Config) -> StatsFile | None:
    """Open the file of --stats-file, if any; check that --top has a terminal.

    Raises:
        PypwruError: --top has no terminal, or the file can't be written.
    """
    if config.top:
        from pypwru.statistics import top

        top.check()
    if config.stats_file is None:
        return None
    from pypwru.statistics.file import StatsFile

    return StatsFile(config.stats_file)


def _pcap_target(
    config: Config, stop: Interrupts, log: Log, stack: ExitStack, command: str
) -> Opened | None:
    """Open the target of --output-pcap; return None without that option."""
    if config.output_pcap is None:
        return None
    from pypwru.output.pcap.output import open_pcap

    return open_pcap(config, stop, log, stack, command)


def _require_distinct(config: Config, sink: Sink | None, target: Opened | None) -> None:
    """Raise PypwruError if two outputs are the same file."""
    if not (target or config.stats_file or config.ready_file):
        return
    from pypwru.output.distinct import require_distinct

    text = sink.fileno() if sink else None
    require_distinct(config, text, target.target.fileno() if target else None)


def _printer(session: Session, sink: Sink) -> Printer:
    """Return the printer of a session's records, as text or JSON."""
    shown = columns(session.config)
    form: Form
    if session.config.output_json:
        from pypwru.output.json import Json

        form = Json(shown)
    else:
        from pypwru.output.text import Text

        form = Text(shown)
    return Printer(form, session.names, sink.write_events, session.config)


def _journeys(session: Session, sink: Sink) -> Journeys:
    """Return the printer of a session's packets, one by one."""
    from pypwru.output.journey.journeys import Journeys
    from pypwru.output.journey.json import Json as JourneyJson
    from pypwru.output.journey.text import Text as JourneyText

    config, names = session.config, session.names
    form = JourneyJson(config, names) if config.output_json else JourneyText(config, names)
    return Journeys(config, names, session.traced, form, sink.write_events)


def _pcap(session: Session, target: Opened, log: Log) -> PcapOutput:
    """Return the writer of a session's captured packets."""
    from pypwru.output.pcap.comment import Comments
    from pypwru.output.pcap.output import PcapOutput

    config, names = session.config, session.names
    return PcapOutput(config, names, session.take, target, Comments(config, names).of, log)


def _end(session: Session, shown: Shown, goes_on: bool, stop: Interrupts) -> End:
    """Return why the output stops.

    On a stop request, OutputClosed means that the reader was too slow, not that it is gone.
    """
    if shown.failure:
        return FAILED
    if not goes_on:
        return SIGNAL if stop.received else CLOSED
    return LIMIT if session.is_full else SIGNAL
