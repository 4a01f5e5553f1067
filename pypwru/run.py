"""A session as the command line wants it: printed until a signal, the limit, or a closed output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from pypwru.config import Config
from pypwru.events.record import Slices
from pypwru.kernel.capabilities import require_capabilities
from pypwru.log import Log
from pypwru.output.columns import columns
from pypwru.output.json import Json
from pypwru.output.pcap.output import Opened, PcapOutput, pcap_where_possible
from pypwru.output.printer import Printer
from pypwru.output.rotation import open_output
from pypwru.output.sink import OutputClosed, Sink, make_empty
from pypwru.output.text import Text
from pypwru.session import Session, compile_filters, opened
from pypwru.signals import interrupts


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
        outputs: each gets every batch; when one has no reader any more, the trace ends.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = outputs
        self.count = 0

    def all(self, batches: Iterable[Sequence[Slices]]) -> bool:
        """Show ``batches``; false when a reader went away."""
        for batch in batches:
            try:
                for output in self._outputs:
                    output.show(batch)
            except OutputClosed as closed:
                self.count += closed.events
                return False
            self.count += len(batch)
        return True


def run(config: Config, log: Log, command: str) -> None:
    """Trace until a signal, the limit of lines, or the reader's end.

    Args:
        command: as it was typed.

    Raises:
        PypwruError: whatever stands in the way; everything is detached.
    """
    filters = compile_filters(config, log)
    require_capabilities()  # before a file is made
    with ExitStack() as stack:
        stop = stack.enter_context(interrupts())
        sink = stack.enter_context(open_output(config, stop, log)) if config.output_text else None
        config, target = pcap_where_possible(config, stop, log, stack, command)
        session = stack.enter_context(opened(config, filters, log, stop))
        text = _printer(session, sink) if sink else None
        pcap = _pcap(session, target, log) if target else None
        shown = Shown([output for output in (pcap, text) if output])
        if pcap:
            pcap.begin()
        if config.ready_file:
            make_empty(config.ready_file)
        if text:
            text.print_header()
        end = _end(session, shown)
        session.stop()
        if end.wants_rest:
            shown.all(session.rest())
        log.info(end.message, **({"count": shown.count} if end is LIMIT else {}))
        session.detach()
        if end.wants_rest:  # what was under way when the probes went
            shown.all(session.rest())
        account = session.account(shown.count)
        if pcap:
            pcap.close(account["lost_packets"])
            account |= pcap.account()
        log.info("Done", **account)


def _printer(session: Session, sink: Sink) -> Printer:
    """What prints a session's records, in the form that is asked for."""
    shown = columns(session.config)
    form = Json(shown) if session.config.output_json else Text(shown)
    return Printer(form, session.names, sink.write_events, session.config)


def _pcap(session: Session, target: Opened, log: Log) -> PcapOutput:
    """What writes its packets."""
    return PcapOutput(session.config, session.names, session.take, target, log)


def _end(session: Session, shown: Shown) -> End:
    """Show records until the end, and say which it is."""
    if not shown.all(session.live()):
        return CLOSED
    return LIMIT if session.is_full else SIGNAL
