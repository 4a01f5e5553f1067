"""The entry point of the Python API: ``trace``, an iterator over the events of a session."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from pypwru.api.event import Event
from pypwru.api.options import as_keywords, configured
from pypwru.api.reading import Events
from pypwru.errors import UsageError
from pypwru.events.lives import sights
from pypwru.gotext import log_value
from pypwru.kernel.capabilities import require_capabilities
from pypwru.log import Log
from pypwru.session import Session, compile_filters, opened
from pypwru.signals import call
from pypwru.statistics.losses import warnings

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

    from pypwru.api.options import TraceOptions
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
    config = configured(pcap_filter, packets, options)
    try:
        return Trace(config, log)
    except UsageError as error:
        raise UsageError(as_keywords(str(error)), error.detail) from error


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
            import_module("pypwru.api.dissection")
        self._log = _Remembering(log, config.debug)
        self._account: Mapping[str, int] = {}
        with ExitStack() as stack:
            filters = compile_filters(config, self._log)
            require_capabilities()
            self._wish = stack.enter_context(call())
            self._session = stack.enter_context(opened(config, filters, self._log, self._wish))
            take = self._session.take if config.packets else None
            self._made = Events(self._session.config, self._session.names, take)
            # Neither generator nor finalizer refers to this object: it is finalized as soon as the
            # caller drops it.
            self._events = _events(self._session, self._made)
            self._release = weakref.finalize(self, stack.pop_all().close)
        _attached.add(self)

    def __repr__(self) -> str:
        state = f"{self._made.given} events so far" if self._release.alive else "over"
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
            self._wish.request()

    def close(self) -> None:
        """Detach at once; events not read yet are lost. A second call does nothing."""
        if not self._release.alive:
            return
        self._events.close()
        try:
            self._session.stop()
            self._session.detach()
            self._account = self._session.account(self._made.given)
            for words in warnings(self._account):
                self._log.warn(words)
            self._log.info("Done", **self._account)
        finally:
            self._release()

    def _leave_to_parent(self) -> None:
        """End the trace in a forked child without detaching: the probes belong to the parent."""
        self._events.close()
        # A context manager's generator that is destroyed, even at exit, runs its ``finally`` and
        # would detach: leak a reference to the exit stack so that it is never destroyed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._release.detach()))

    @property
    def account(self) -> Mapping[str, int]:
        """The counters in the last line of the command line's log; empty until the trace has ended.

        They account for every event: ``events``, ``packets``, ``produced``, ``lost_ring_full``...
        """
        return self._account

    @property
    def lost(self) -> Mapping[str, int]:
        """The nonzero counters of losses, by name; empty until the trace has ended."""
        found = self._account.items()
        return {name: number for name, number in found if number and name.startswith("lost_")}

    @property
    def warnings(self) -> tuple[str, ...]:
        """The log's warnings so far, about events or fields that are missing."""
        return tuple(self._log.warnings)


def _events(session: Session, made: Events) -> Generator[Event, None, None]:
    """Yield all events of a session."""
    for batch in session.live():
        yield from made.of(sights(batch))
    session.stop()
    for batch in session.rest():
        yield from made.of(sights(batch))
    session.detach()
    for batch in session.rest():
        yield from made.of(sights(batch))


_attached: weakref.WeakSet[Trace] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for traced in list(_attached):
        traced._leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


class _Remembering(Log):
    """A log that also keeps its warnings."""

    def __init__(self, stream: TextIO | None, debug: bool) -> None:
        super().__init__(stream, debug)
        self.warnings: list[str] = []

    def warn(self, message: str, **values: object) -> None:
        pairs = "".join(f" {name}={log_value(value)}" for name, value in values.items())
        self.warnings.append(f"{message}{pairs}")
        super().warn(message, **values)
