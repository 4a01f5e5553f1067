"""Output of a run besides its events.

Statistics, --top, log messages about losses, and progress on SIGUSR1.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.signals import StopRequest
    from pypwru.statistics.file import StatsFile
    from pypwru.statistics.notices import LossNotices
    from pypwru.statistics.schedule import ReportSchedule
    from pypwru.statistics.silent import SilentLosses
    from pypwru.statistics.summary import Statistics, Summary
    from pypwru.statistics.top.top import LiveTable
    from pypwru.statistics.traced_session import TracedSession

TakeSignal = Callable[[], signal.Signals | None]


def handled_signals(config: Config) -> tuple[signal.Signals, ...]:
    """Return the signals that this run handles itself.

    SIGUSR1 prints statistics or progress; with --top also SIGTSTP, to restore the terminal before
    stopping.
    """
    return (signal.SIGUSR1, signal.SIGTSTP) if config.top else (signal.SIGUSR1,)


def packet_filter_flag(config: Config) -> str:
    """Return the flag of the run's filter by what becomes of a packet later; empty for none."""
    if config.drops:
        return "--drops"
    return "--filter-nft-*" if config.has_nft_filter else ""


class StatsRunner:
    """Runs statistics, --top and notices; ``on_batch`` is called between batches.

    Args:
        session: of the run.
        file: of --stats-file; None without one.
        take_signal: returns a pending signal of ``handled_signals``, or None.
        log: of the run.
    """

    def __init__(
        self,
        session: TracedSession,
        file: StatsFile | None,
        take_signal: TakeSignal,
        log: Log,
    ) -> None:
        config = session.config
        self._session = session
        self._take_signal = take_signal
        self._log = log
        self._event_count = 0
        self._final_counters: Mapping[str, int] | None = (
            None  # final counters, once the trace is over
        )
        self._statistics: Statistics | None = None
        self._reports: ReportSchedule | None = None
        self._live_table: LiveTable | None = None
        self._lazy_notices: LossNotices | None = None
        self._packet_filter = packet_filter_flag(config)
        session.add_poller(lambda: self._notices.poll())
        if config.has_statistics:
            from pypwru.statistics.schedule import ReportSchedule
            from pypwru.statistics.summary import Statistics

            self._statistics = Statistics(session.layout, session.names, session.targets)
            has_text = config.stats or file is None
            self._reports = ReportSchedule(
                self._summary, file, has_text, config.stats_interval, log
            )
        self._has_live_table = config.top
        self._silent_losses: SilentLosses | None = None
        if session.needs.drop_locations:
            from pypwru.statistics.silent import SilentLosses

            self._silent_losses = SilentLosses(session.netns)

    @property
    def observers(self) -> Sequence[Statistics]:
        """Consumers of all batches."""
        return [self._statistics] if self._statistics else []

    @contextmanager
    def live_table(self, stop: StopRequest) -> Iterator[None]:
        """Draw the live table of --top until the context exits; without --top do nothing.

        Args:
            stop: gets the stop request of the key ``q``.
        """
        if not self._has_live_table:
            yield
            return
        from pypwru.statistics.top import top

        with (
            self._log.deferred_on_tty(),
            top.open_table(self._summary, stop.request_stop) as self._live_table,
        ):
            self._session.watch(top.KEYBOARD)
            yield
        self._live_table = None

    def on_batch(self, event_count: int) -> None:
        """Handle a pending signal, emit statistics that are due, and refresh the live table.

        Args:
            event_count: number of events so far.
        """
        self._event_count = event_count
        received = self._take_signal()
        if received is signal.SIGUSR1:
            self._report_progress()
        if self._reports:
            self._reports.emit_if_due()
        if self._live_table:
            if received is signal.SIGTSTP:
                self._live_table.suspend()
            self._live_table.refresh()

    @property
    def _notices(self) -> LossNotices:
        if self._lazy_notices is None:
            from pypwru.statistics.notices import LossNotices

            self._lazy_notices = LossNotices(self._session, self._log, self._packet_filter)
        return self._lazy_notices

    def finish(self, counters: Mapping[str, int]) -> None:
        """Emit final statistics and log what was lost.

        Args:
            counters: final counters of the session.

        Raises:
            OutputError: the document of --stats-file can't be written.
        """
        self._final_counters = counters
        if self._reports:
            self._reports.emit(is_final=True)
        self._notices.finish(counters)
        for sentence in self._silent_losses.sentences() if self._silent_losses else ():
            self._log.warn(sentence)

    def _report_progress(self) -> None:
        if self._reports:
            self._reports.emit()
        else:
            self._log.info("So far", **self._session.summary(self._event_count))

    def _summary(self, is_final: bool = False) -> Summary:
        from pypwru.statistics.summary import RunCounters

        assert self._statistics, "config.has_statistics"
        counters = self._final_counters
        if counters is None:
            counters = self._session.summary(self._event_count)
        runs = self._session.run_stats
        throttled = self._session.throttle_report.counts()
        return self._statistics.summary(
            RunCounters(counters, throttled, runs() if runs else None), is_final
        )
