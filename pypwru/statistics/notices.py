"""Log messages about missing events: losses, and filters that no packet matches."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pypwru.kernel.bpf_objects import runs_counted
from pypwru.statistics.losses import warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.log import Log
    from pypwru.statistics.traced import TracedSession

_QUIET = 3.0  # seconds without a match, after which a user at a terminal is informed


class Notices:
    """Logs each message once; ``poll`` is called during the trace, ``finish`` at its end.

    Args:
        session: of the run.
        log: of the run.
        monotonic: clock in seconds.
    """

    def __init__(
        self, session: TracedSession, log: Log, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._log = log
        self._monotonic = monotonic
        self._begin = monotonic()
        self._counting = ExitStack()
        self._before: tuple[float, int] | None = None  # start of counting: seconds, hits
        self._rate: float | None = None  # hits/s while no packet matched
        self._has_told_loss = self._has_told_quiet = False

    def poll(self) -> None:
        """Log on a terminal that losses have begun, or that no packet has matched so far."""
        counted = self._session.counters()
        if counted.ring_full and not self._has_told_loss and self._log.on_terminal:
            self._has_told_loss = True
            self._log.warn("The ring buffer is full, events are lost: raise --buffer-size")
        if counted.produced:
            self._counting.close()
            return
        self._measure()
        is_quiet = self._monotonic() - self._begin > _QUIET
        if is_quiet and not self._has_told_quiet and self._log.on_terminal:
            self._has_told_quiet = True
            self._log.info(f"No packet matched so far{self._others()}")

    def _measure(self) -> None:
        """Measure the rate of hits from the first poll to the second. Not for longer: while the
        kernel counts runs of BPF programs (BPF_ENABLE_STATS), each hit costs more.
        """
        now = self._monotonic()
        if self._before is None:
            is_counted = self._counting.enter_context(runs_counted())
            self._before = now, self._session.hits() if is_counted else -1
        elif self._rate is None and self._before[1] >= 0:
            self._rate = (self._session.hits() - self._before[1]) / (now - self._before[0])
            self._counting.close()

    def _others(self) -> str:
        if self._rate is None:
            return ""
        if not self._rate:
            return ", and no other packet passed a traced function either"
        return f"; others pass traced functions {self._rate:,.0f} times a second"

    def finish(self, account: Mapping[str, int]) -> None:
        """Log what was missing at the end of the trace.

        Args:
            account: final counters of the session.
        """
        self._counting.close()
        for words in warnings(account):
            self._log.warn(words)
        config = self._session.config
        if not account["produced"]:
            self._log.info(f"No packet matched{self._others()}")
        elif not account["events"] and (config.drops or config.filters_nft):
            flag = "--drops" if config.drops else "--filter-nft-*"
            self._log.info(f"{account['produced']} events of matching packets, none for {flag}")
