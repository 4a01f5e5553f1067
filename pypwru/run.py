"""A session as the command line wants it: shown until a signal, the limit, or a closed output."""

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
    """Why a trace ended.

    Args:
        message: for the log.
        wants_rest: whether records that are still on the ring are printed.
    """

    message: str
    wants_rest: bool


SIGNAL = End("Received signal, exiting program..", True)
LIMIT = End("Printed events, exiting program..", False)
CLOSED = End("Standard output has no reader, exiting program..", False)
FAILED = End("An output can't be written, exiting program..", False)


class Output(Protocol):
    """What shows records: the printer of text or JSON, pcap."""

    def show(self, batch: Sequence[Slices]) -> None:
        """Show ``batch``, which may be empty.

        Raises:
            OutputClosed: nobody reads it any more.
        """


class Shown:
    """Everything that shows records, and how many were shown.

    Args:
        outputs: each gets every batch of sights; when one has no reader any more, or can't be
            written, the trace ends.
        followers: get what of it was shown, and the ends of packets too.
        between: told after each batch, also an empty one, how many were shown so far; ends the
            trace like an output.
        has_ends: whether there are ends of packets among records at all.
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
        """The first output that can't be written."""

    def all(self, batches: Iterable[Sequence[Slices]]) -> bool:
        """Show ``batches``; false when a reader went away, or an output can't be written."""
        return all(self.attempt(partial(self._show, batch)) for batch in batches)

    def attempt(self, act: Callable[[], object]) -> bool:
        """Do what may write; false as of ``all``."""
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
    """Trace until a signal, the limit of lines, or the reader's end.

    Args:
        command: as it was typed.

    Raises:
        PypwruError: whatever stands in the way; everything is detached.
    """
    # Long, since it shows in one place in which order a run's ends are opened and closed.
    filters = compile_filters(config, log)
    require_capabilities()  # before a file is made
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
        if end.wants_rest and goes_on:  # what was under way when the probes went
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
    """The file of --stats-file; also makes sure that --top has its terminal."""
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
    """What --output-pcap writes to."""
    if config.output_pcap is None:
        return None
    from pypwru.output.pcap.output import open_pcap

    return open_pcap(config, stop, log, stack, command)


def _require_distinct(config: Config, sink: Sink | None, target: Opened | None) -> None:
    """Make sure that no output overwrites another."""
    if not (target or config.stats_file or config.ready_file):
        return
    from pypwru.output.distinct import require_distinct

    text = sink.fileno() if sink else None
    require_distinct(config, text, target.target.fileno() if target else None)


def _printer(session: Session, sink: Sink) -> Printer:
    """What prints a session's records, as text or as JSON."""
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
    """What prints its packets, one by one."""
    from pypwru.output.journey.journeys import Journeys
    from pypwru.output.journey.json import Json as JourneyJson
    from pypwru.output.journey.text import Text as JourneyText

    config, names = session.config, session.names
    form = JourneyJson(config, names) if config.output_json else JourneyText(config, names)
    return Journeys(config, names, session.traced, form, sink.write_events)


def _pcap(session: Session, target: Opened, log: Log) -> PcapOutput:
    """What writes its packets."""
    from pypwru.output.pcap.output import PcapOutput

    return PcapOutput(session.config, session.names, session.take, target, log)


def _end(session: Session, shown: Shown, goes_on: bool, stop: Interrupts) -> End:
    """Why nothing more is shown; a reader that was too slow when the end was requested is there."""
    if shown.failure:
        return FAILED
    if not goes_on:
        return SIGNAL if stop.received else CLOSED
    return LIMIT if session.is_full else SIGNAL
