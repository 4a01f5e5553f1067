"""Log messages about missing events: losses, and filters that no packet matches."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pypwru.kernel.bpf_info import enable_bpf_stats
from pypwru.statistics.losses import loss_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.log import Log
    from pypwru.statistics.traced_session import TracedSession

_QUIET_PERIOD = 3.0  # seconds without a match, after which a user at a terminal is informed


class LossNotices:
    """Logs each message once; ``poll`` is called during the trace, ``finish`` at its end.

    Args:
        session: of the run.
        log: of the run.
        packet_filter: flag of the filter that suppresses events of matching packets which a trace
            without it prints (``--drops``, ``--filter-nft-*``); empty for none.
        monotonic: clock in seconds.
    """

    def __init__(
        self,
        session: TracedSession,
        log: Log,
        packet_filter: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._log = log
        self._packet_filter = packet_filter
        self._monotonic = monotonic
        self._start_time = monotonic()
        self._counting = ExitStack()
        self._first_count: tuple[float, int] | None = None  # start of counting: seconds, hits
        self._rate: float | None = None  # hits/s while no packet matched
        self._has_logged_loss = self._has_logged_quiet = False

    def poll(self) -> None:
        """Log on a terminal that losses have begun, or that no packet has matched so far."""
        counters = self._session.handler_counters()
        if counters.ring_full and not self._has_logged_loss and self._log.is_tty:
            self._has_logged_loss = True
            self._log.warn("The ring buffer is full, events are lost: raise --buffer-size")
        if counters.produced:
            self._counting.close()
            return
        self._measure()
        is_quiet = self._monotonic() - self._start_time > _QUIET_PERIOD
        if is_quiet and not self._has_logged_quiet and self._log.is_tty:
            self._has_logged_quiet = True
            self._log.info(f"No packet matched so far{self._rate_text()}")

    def _measure(self) -> None:
        """Measure the rate of hits from the first poll to the second.

        Not for longer: while the kernel counts runs of BPF programs (BPF_ENABLE_STATS), each hit
        costs more.
        """
        now = self._monotonic()
        if self._first_count is None:
            is_counted = self._counting.enter_context(enable_bpf_stats())
            self._first_count = now, self._session.hits() if is_counted else -1
        elif self._rate is None and self._first_count[1] >= 0:
            self._rate = (self._session.hits() - self._first_count[1]) / (
                now - self._first_count[0]
            )
            self._counting.close()

    def _rate_text(self) -> str:
        if self._rate is None:
            return ""
        if not self._rate:
            return ", and no other packet passed a traced function either"
        return f"; others pass traced functions {self._rate:,.0f} times a second"

    def finish(self, counters: Mapping[str, int]) -> None:
        """Log what was missing at the end of the trace.

        Args:
            counters: final counters of the session.
        """
        self._counting.close()
        for text in loss_warnings(counters):
            self._log.warn(text)
        if not counters["produced"]:
            self._log.info(f"No packet matched{self._rate_text()}")
        elif not counters["events"] and self._packet_filter:
            produced = counters["produced"]
            self._log.info(f"{produced} events of matching packets, none for {self._packet_filter}")
