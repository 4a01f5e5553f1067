"""When statistics are told, and where."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pypwru.errors import OutputError
from pypwru.statistics.document import document
from pypwru.statistics.report import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.log import Log
    from pypwru.statistics.file import StatsFile
    from pypwru.statistics.summary import Summary


class Reports:
    """Tells statistics: on standard error as text, in a file as JSON, or both.

    Args:
        summary: what is known now; of the whole trace where its argument is true.
        file: None for no file.
        has_text: whether there is a report on standard error.
        interval: seconds from one to the next; 0 for none before the end.
        log: gets the text; and is told what can't be written before the end, which ends no trace.
        monotonic: seconds.
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

    def tell_when_due(self) -> None:
        """To be called again and again; what was missed meanwhile is not made up for."""
        now = self._monotonic()
        if now >= self._due:
            self._due += self._interval * ((now - self._due) // self._interval + 1)
            self.tell()

    def tell(self, is_final: bool = False) -> None:
        """Tell them now.

        Raises:
            OutputError: the last ones can't be written.
        """
        summary = self._summary(is_final)
        if self._has_text:
            self._log.text(report(summary))
        if self._file is None:
            return
        try:
            self._file.write(document(summary))
        except OutputError as error:
            if is_final:
                raise
            self._log.warn("Failed to write statistics", why=error)
