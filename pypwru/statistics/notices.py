"""What a run says in words of events that are missing: lost ones, and those of a filter that no
packet matches.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pypwru.kernel.bpf_objects import runs_counted
from pypwru.statistics.losses import warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.log import Log
    from pypwru.session import Session

_QUIET = 3.0  # seconds, after which somebody at a terminal wonders


class Notices:
    """Says each of them once; to be polled, and finished.

    Args:
        session: what is traced.
        log: of the run.
        monotonic: seconds.
    """

    def __init__(
        self, session: Session, log: Log, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._log = log
        self._monotonic = monotonic
        self._begin = monotonic()
        self._counting = ExitStack()
        self._before: tuple[float, int] | None = None  # when hits began to be counted, and how many
        self._rate: float | None = None  # hits a second while no packet matched
        self._has_told_loss = self._has_told_quiet = False

    def poll(self) -> None:
        """Say on a terminal what has begun."""
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
        """Count hits from this poll to the next one; not for longer, since it costs each some."""
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
        """Say what was missing in the end.

        Args:
            account: where every event went.
        """
        self._counting.close()
        for words in warnings(account):
            self._log.warn(words)
        config = self._session.config
        if not account["produced"]:
            self._log.info(f"No packet matched{self._others()}")
        elif not account["events"] and (config.drops or config.filters_nft):
            flag = "--drops" if config.drops else "--filter-nft-*"
            self._log.info(f"{account['produced']} events of matching packets, none as {flag} asks")
