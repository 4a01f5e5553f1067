"""Schedule and destinations of statistics: reports on standard error, documents in a file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pypwru.errors import OutputError
from pypwru.statistics.document import render_document
from pypwru.statistics.report import render_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.log import Log
    from pypwru.statistics.file import StatsFile
    from pypwru.statistics.summary import Summary


class ReportSchedule:
    """Emits statistics: as text on standard error, as JSON in a file, or both.

    Args:
        summary: returns the summary so far; a final one if its argument is true.
        file: of --stats-file; None without one.
        has_text: print a report on standard error.
        interval: seconds from one report to the next; 0 for none before the end.
        log: prints the report; and a warning if a document can't be written before the end.
        monotonic: clock in seconds.
    """

    def __init__(
        self,
        summary: Callable[[bool], Summary],
        file: StatsFile | None,
        has_text: bool,
        interval: int,
        log: Log,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._summary = summary
        self._file = file
        self._has_text = has_text
        self._interval = interval
        self._log = log
        self._monotonic = monotonic
        self._due = monotonic() + interval if interval else float("inf")

    def emit_if_due(self) -> None:
        """Emit statistics if the interval has passed; called after each batch.

        Intervals that passed without a call are skipped.
        """
        now = self._monotonic()
        if now >= self._due:
            self._due += self._interval * ((now - self._due) // self._interval + 1)
            self.emit()

    def emit(self, is_final: bool = False) -> None:
        """Emit statistics now.

        Args:
            is_final: the trace is over.

        Raises:
            OutputError: the final document can't be written.
        """
        summary = self._summary(is_final)
        if self._has_text:
            self._log.write_text(render_report(summary))
        if self._file is None:
            return
        try:
            self._file.write(render_document(summary))
        except OutputError as error:
            if is_final:
                raise
            self._log.warn("Failed to write statistics", why=error)
