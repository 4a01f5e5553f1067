"""A trace that a script reads: a session whose records are events."""

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
    """Trace packets through the kernel's functions; needs the rights that the command line needs.

    Once it returns, everything is attached. What comes is there to be iterated over::

        for event in trace("icmp", priority=1, packets=True):
            print(event.func, event.packet.summary())

    Args:
        pcap_filter: of pcap-filter(7), such as ``tcp and port 443``; empty matches every packet.
        packets: whether every event carries its packet, for ``event.packet`` and ``event.octets``.
        log: where the command line's log goes to, such as ``sys.stderr``; None is nowhere.
        options: the flags of the command line, with ``_`` for ``-``: see ``TraceOptions``.

    Returns:
        A Trace. Leaving its ``with`` detaches, as do its end and dropping it.

    Raises:
        UsageError: an option that there isn't, or a value that can't be meant.
        FilterError: a filter that libpcap refuses, or a wrong expression.
        PypwruError: these and whatever else stands in the way: rights, the kernel, BCC.
    """
    config = configured(pcap_filter, packets, options)
    try:
        return Trace(config, log)
    except UsageError as error:
        raise UsageError(as_keywords(str(error)), error.detail) from error


class Trace(Iterator[Event]):
    """A trace under way: an iterator of events, and a context manager.

    It installs no handler of signals: Ctrl-C raises KeyboardInterrupt as ever, and everything is
    detached before a loop over events passes it on. It may run in any thread, and several may run
    at a time; one of them is for one thread, but for ``stop``. In a forked child it is over, and
    goes on in the parent.

    Args:
        config: what to trace.
        log: of the run; None for none.
    """

    def __init__(self, config: Config, log: TextIO | None = None) -> None:
        if config.packets:  # now: events would wait for it
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
            # Nothing below knows this object: the last reference to it goes with the loop.
            self._events = _events(self._session, self._made)
            self._release = weakref.finalize(self, stack.pop_all().close)
        _attached.add(self)

    def __repr__(self) -> str:
        state = f"{self._made.given} events so far" if self._release.alive else "over"
        return f"<Trace {self._session.config.pcap_filter!r}, {state}>"

    def __next__(self) -> Event:
        """The next event; waits for it.

        Raises:
            StopIteration: after ``stop``, or as many events as were asked for.
            PypwruError: the trace can't go on.
        """
        try:
            return next(self._events)
        except BaseException:  # also of the user's: nothing comes any more
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
        """End the iteration, behind what was seen until now; from any thread or handler."""
        if self._release.alive:
            self._wish.request()

    def close(self) -> None:
        """Detach at once; what was not read yet is lost. A second time does nothing."""
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
        """End it in a forked child, and undo nothing: what is attached is the parent's, too."""
        self._events.close()
        # A generator that is destroyed, if at exit, leaves its ``with``: this reference is never
        # given up.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._release.detach()))

    @property
    def account(self) -> Mapping[str, int]:
        """Where every sight went, as the last line of the command line's log tells: ``events``,
        ``packets``, ``produced``, ``lost_ring_full``, ...; empty until the trace is over.
        """
        return self._account

    @property
    def lost(self) -> Mapping[str, int]:
        """What of it was lost, by cause; without causes that took nothing."""
        found = self._account.items()
        return {name: number for name, number in found if number and name.startswith("lost_")}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the log warned of so far: what is missing from the events."""
        return tuple(self._log.warnings)


def _events(session: Session, made: Events) -> Generator[Event, None, None]:
    """All of a session."""
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
    """A log of which the warnings can be asked for."""

    def __init__(self, stream: TextIO | None, debug: bool) -> None:
        super().__init__(stream, debug)
        self.warnings: list[str] = []

    def warn(self, message: str, **values: object) -> None:
        pairs = "".join(f" {name}={log_value(value)}" for name, value in values.items())
        self.warnings.append(f"{message}{pairs}")
        super().warn(message, **values)
