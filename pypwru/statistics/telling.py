"""Output of a run besides its events: statistics, --top, log messages about losses, and progress
on SIGUSR1.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.signals import Interrupts
    from pypwru.statistics.file import StatsFile
    from pypwru.statistics.notices import Notices
    from pypwru.statistics.reports import Reports
    from pypwru.statistics.silent import SilentLosses
    from pypwru.statistics.summary import Statistics, Summary
    from pypwru.statistics.top.top import Top
    from pypwru.statistics.traced import TracedSession

Take = Callable[[], signal.Signals | None]


def asking(config: Config) -> tuple[signal.Signals, ...]:
    """Return the signals that this run handles itself: SIGUSR1 prints statistics or progress; with
    --top also SIGTSTP, to restore the terminal before stopping.
    """
    return (signal.SIGUSR1, signal.SIGTSTP) if config.top else (signal.SIGUSR1,)


class Telling:
    """Runs statistics, --top and notices; ``look`` is called between batches.

    Args:
        config: of the run.
        session: of the run.
        file: of --stats-file; None without one.
        asked: returns a pending signal of ``asking``, or None.
        log: of the run.
    """

    def __init__(
        self, config: Config, session: TracedSession, file: StatsFile | None, asked: Take, log: Log
    ) -> None:
        self._session = session
        self._asked = asked
        self._log = log
        self._shown = 0
        self._account: Mapping[str, int] | None = None  # final counters, once the trace is over
        self._statistics: Statistics | None = None
        self._reports: Reports | None = None
        self._table: Top | None = None
        self._kept_notices: Notices | None = None
        session.poll(lambda: self._notices.poll())
        if config.sums_up:
            from pypwru.statistics.reports import Reports
            from pypwru.statistics.summary import Statistics

            self._statistics = Statistics(session.config, session.names, session.traced)
            has_text = config.stats or file is None
            self._reports = Reports(self._summary, file, has_text, config.stats_interval, log)
        self._has_table = config.top
        self._silent: SilentLosses | None = None
        if config.locates_drops:
            from pypwru.statistics.silent import SilentLosses

            self._silent = SilentLosses(session.netns)

    @property
    def followers(self) -> Sequence[Statistics]:
        """Consumers of all batches."""
        return [self._statistics] if self._statistics else []

    @contextmanager
    def live(self, stop: Interrupts) -> Iterator[None]:
        """Draw the live table of --top until the context exits; without --top do nothing.

        Args:
            stop: gets the stop request of the key ``q``.
        """
        if not self._has_table:
            yield
            return
        from pypwru.statistics.top import top

        with self._log.held_on_terminal(), top.opened(self._summary, stop.want_end) as self._table:
            self._session.watch(top.KEYBOARD)
            yield
        self._table = None

    def look(self, shown: int) -> None:
        """Handle a pending signal, emit statistics that are due, and refresh the live table.

        Args:
            shown: number of events so far.
        """
        self._shown = shown
        asked = self._asked()
        if asked is signal.SIGUSR1:
            self._tell()
        if self._reports:
            self._reports.tell_when_due()
        if self._table:
            if asked is signal.SIGTSTP:
                self._table.suspend()
            self._table.refresh()

    @property
    def _notices(self) -> Notices:
        if self._kept_notices is None:
            from pypwru.statistics.notices import Notices

            self._kept_notices = Notices(self._session, self._log)
        return self._kept_notices

    def finish(self, account: Mapping[str, int]) -> None:
        """Emit final statistics and log what was lost.

        Args:
            account: final counters of the session.

        Raises:
            OutputError: the document of --stats-file can't be written.
        """
        self._account = account
        if self._reports:
            self._reports.tell(is_final=True)
        self._notices.finish(account)
        for words in self._silent.sentences() if self._silent else ():
            self._log.warn(words)

    def _tell(self) -> None:
        if self._reports:
            self._reports.tell()
        else:
            self._log.info("So far", **self._session.account(self._shown))

    def _summary(self, is_final: bool = False) -> Summary:
        from pypwru.statistics.summary import Told

        assert self._statistics, "config.sums_up"
        account = self._account
        if account is None:
            account = self._session.account(self._shown)
        runs = self._session.runs
        throttled = self._session.throttled.counts()
        return self._statistics.summary(
            Told(account, throttled, runs() if runs else None), is_final
        )
