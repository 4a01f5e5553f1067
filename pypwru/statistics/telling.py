"""What a run tells beside its records: what they add up to, what is missing, and on SIGUSR1 how far
it is.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypwru.config import Config
    from pypwru.log import Log
    from pypwru.session import Session
    from pypwru.signals import Interrupts
    from pypwru.statistics.file import StatsFile
    from pypwru.statistics.notices import Notices
    from pypwru.statistics.reports import Reports
    from pypwru.statistics.silent import SilentLosses
    from pypwru.statistics.summary import Statistics, Summary
    from pypwru.statistics.top.top import Top

Take = Callable[[], signal.Signals | None]


def asking(config: Config) -> tuple[signal.Signals, ...]:
    """Signals that ask for something: SIGTSTP only who must give a terminal back before."""
    return (signal.SIGUSR1, signal.SIGTSTP) if config.top else (signal.SIGUSR1,)


class Telling:
    """Tells it; to be asked between batches.

    Args:
        config: of the run.
        session: what is traced.
        file: of --stats-file.
        asked: takes a signal that came.
        log: of the run.
    """

    def __init__(
        self, config: Config, session: Session, file: StatsFile | None, asked: Take, log: Log
    ) -> None:
        self._session = session
        self._asked = asked
        self._log = log
        self._shown = 0
        self._account: Mapping[str, int] | None = None  # of all, once it is over
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
        """What must get all that is shown."""
        return [self._statistics] if self._statistics else []

    @contextmanager
    def live(self, stop: Interrupts) -> Iterator[None]:
        """The live table where it is asked for, until the way out.

        Args:
            stop: what ``q`` means.
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
        """Tell what is asked for by now.

        Args:
            shown: sights so far.
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
        """Tell the whole, in the end.

        Args:
            account: where every event went.

        Raises:
            OutputError: it can't be written.
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

        assert self._statistics, "there is something to sum up"
        account = self._account
        if account is None:
            account = self._session.account(self._shown)
        runs = self._session.runs
        throttled = self._session.throttled.counts()
        return self._statistics.summary(
            Told(account, throttled, runs() if runs else None), is_final
        )
