"""The entry point of the Python API: ``trace``, an iterator over the events of a session."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from pypwru.api.build_events import EventBuilder
from pypwru.api.event import Event
from pypwru.api.options import flags_to_keywords, make_config
from pypwru.errors import UsageError
from pypwru.go_values import format_log_value
from pypwru.kernel.capabilities import require_capabilities
from pypwru.log import Log
from pypwru.output.columns import columns
from pypwru.packets.tracker import without_free_records
from pypwru.phases.plan import compile_filters
from pypwru.session import Session, open_session
from pypwru.signals import manual_stop
from pypwru.statistics.losses import loss_warnings

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from pypwru.api.trace_options import TraceOptions
    from pypwru.config import Config


def trace(
    pcap_filter: str = "",
    *,
    packets: bool = False,
    log: TextIO | None = None,
    **options: Unpack[TraceOptions],
) -> Trace:
    """Trace packets through the kernel's functions; needs the command line's capabilities.

    Everything is attached when it returns. Iterate over the result::

        for event in trace("icmp", priority=1, packets=True):
            print(event.func, event.packet.summary())

    Args:
        pcap_filter: expression of pcap-filter(7), such as ``tcp and port 443``; empty matches
            every packet.
        packets: whether to capture the packet at every event, for ``event.packet`` and
            ``event.octets``.
        log: stream for the log, such as ``sys.stderr``; None for no log.
        options: the flags of the command line, with ``_`` for ``-``: see ``TraceOptions``.

    Returns:
        A Trace. It detaches when its ``with`` block or the iteration ends, or when it is deleted.

    Raises:
        UsageError: an unknown option or an invalid value.
        FilterError: libpcap rejects the filter, or an expression is invalid.
        PypwruError: base class of these, and of all other failures: missing capabilities, a
            feature that the kernel lacks, a missing BCC.
    """
    config = make_config(pcap_filter, packets, options)
    try:
        return Trace(config, log)
    except UsageError as error:
        cause, cure = map(flags_to_keywords, (error.cause, error.cure))
        raise UsageError(cause, cure, error.detail) from error


class Trace(Iterator[Event]):
    """A running trace: an iterator of events and a context manager.

    It installs no signal handler: Ctrl-C raises KeyboardInterrupt as usual, and everything is
    detached before the exception leaves the iteration. Traces can run in any thread and several at
    a time; a single one may be used by one thread only, except for ``stop``. In a forked child the
    trace has ended; it continues in the parent.

    Args:
        config: of the run.
        log: stream for the log; None for no log.
    """

    def __init__(self, config: Config, log: TextIO | None = None) -> None:
        if config.packets:  # import scapy now, rather than when events arrive already
            import_module("pypwru.api.scapy_packet")
        self._log = _WarningLog(log, config.debug)
        self._counters: Mapping[str, int] = {}
        with ExitStack() as stack:
            filters = compile_filters(config, self._log)
            require_capabilities()
            self._stop_request = stack.enter_context(manual_stop())
            self._session = stack.enter_context(
                open_session(config, filters, self._log, self._stop_request)
            )
            take = self._session.packet_data if config.packets else None
            self._builder = EventBuilder(
                self._session.layout,
                columns(self._session.config, self._session.layout),
                self._session.names,
                take,
                snaplen=self._session.needs.snaplen,
            )
            # Neither generator nor finalizer refers to this object: it is finalized as soon as the
            # caller drops it.
            self._events = _iter_events(self._session, self._builder)
            self._release = weakref.finalize(self, stack.pop_all().close)
        _active_traces.add(self)

    def __repr__(self) -> str:
        state = f"{self._builder.count} events so far" if self._release.alive else "over"
        return f"<Trace {self._session.config.pcap_filter!r}, {state}>"

    def __next__(self) -> Event:
        """Wait for the next event and return it.

        Raises:
            StopIteration: after ``stop``, or after output_limit_lines events.
            PypwruError: the trace can't go on.
        """
        try:
            return next(self._events)
        except BaseException:  # also KeyboardInterrupt and other exceptions of the user's handlers
            self.close()
            raise

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def stop(self) -> None:
        """End the iteration after the events so far; from any thread or signal handler."""
        if self._release.alive:
            self._stop_request.request()

    def close(self) -> None:
        """Detach at once; events not read yet are lost. A second call does nothing."""
        if not self._release.alive:
            return
        self._events.close()
        try:
            self._session.stop()
            self._session.detach()
            self._counters = self._session.summary(self._builder.count)
            for warning in loss_warnings(self._counters):
                self._log.warn(warning)
            self._log.info("Done", **self._counters)
        finally:
            self._release()

    def _abandon_in_child(self) -> None:
        """End the trace in a forked child without detaching: the probes belong to the parent."""
        self._events.close()
        # A context manager's generator that is destroyed, even at exit, runs its ``finally`` and
        # would detach: leak a reference to the exit stack so that it is never destroyed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._release.detach()))

    @property
    def counters(self) -> Mapping[str, int]:
        """The counters in the last line of the command line's log; empty until the trace has ended.

        They account for every event: ``events``, ``packets``, ``produced``, ``lost_ring_full``...
        """
        return self._counters

    @property
    def lost(self) -> Mapping[str, int]:
        """The nonzero counters of losses, by name; empty until the trace has ended."""
        counters = self._counters.items()
        return {name: number for name, number in counters if number and name.startswith("lost_")}

    @property
    def warnings(self) -> tuple[str, ...]:
        """The log's warnings so far, about events or fields that are missing."""
        return tuple(self._log.warnings)


def _iter_events(session: Session, builder: EventBuilder) -> Generator[Event, None, None]:
    """Yield all events of a session."""
    for batch in session.batches():
        yield from builder.build(without_free_records(batch))
    session.stop()
    for batch in session.drain_remaining():
        yield from builder.build(without_free_records(batch))
    session.detach()
    for batch in session.drain_remaining():
        yield from builder.build(without_free_records(batch))


_active_traces: weakref.WeakSet[Trace] = weakref.WeakSet()


def _abandon_all_in_child() -> None:
    for active in list(_active_traces):
        active._abandon_in_child()


os.register_at_fork(after_in_child=_abandon_all_in_child)


class _WarningLog(Log):
    """A log that also keeps its warnings."""

    def __init__(self, stream: TextIO | None, debug: bool) -> None:
        super().__init__(stream, debug)
        self.warnings: list[str] = []

    def warn(self, message: str, **values: object) -> None:
        pairs = "".join(f" {name}={format_log_value(value)}" for name, value in values.items())
        self.warnings.append(f"{message}{pairs}")
        super().warn(message, **values)
