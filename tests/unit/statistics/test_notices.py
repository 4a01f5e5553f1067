"""Log messages about missing events."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pypwru.log import Log
from pypwru.ring.counters import Counters
from pypwru.statistics import notices
from pypwru.statistics.losses import LOSS_TEXTS, loss_warnings
from pypwru.statistics.runner import packet_filter_flag
from tests.support import records

WHOLE = {"events": 4, "produced": 4, "not_shown": 0, "lost_ring_full": 0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeSession:
    """A session with these flags, whose notices are polled every half second."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, flags: str = "", terminal: bool = True
    ) -> None:
        self.hits, self.counted = 0, Counters()
        self.is_counting, self.can_count = False, True
        self._now = 0.0
        self._stream = Terminal() if terminal else io.StringIO()
        monkeypatch.setattr(notices, "enable_bpf_stats", self._enable_stats)
        traced = SimpleNamespace(
            handler_counters=lambda: self.counted,
            hits=lambda: self.hits,
        )
        packet_filter = packet_filter_flag(records.configured(flags))
        self._notices = notices.LossNotices(
            traced, Log(self._stream), packet_filter, lambda: self._now
        )

    @contextmanager
    def _enable_stats(self) -> Iterator[bool]:
        self.is_counting = self.can_count
        yield self.can_count
        self.is_counting = False

    def poll(self, times: int = 1, hits: int = 0, **counted: int) -> None:
        for _ in range(times):
            self._now += 0.5
            self.hits += hits if self.is_counting else 0
            self.counted = Counters(**counted)
            self._notices.poll()

    def finish(self, counters: Mapping[str, int]) -> None:
        self._notices.finish(counters)

    @property
    def lines(self) -> list[str]:
        return [re.sub(r"^\S+ \S+ ", "", line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    return FakeSession(monkeypatch)


def test_unmatched_filter_is_logged(session: FakeSession) -> None:
    session.poll(6, hits=2100)
    assert session.lines == []
    session.poll(20, hits=2100)
    assert session.lines == [
        "INFO No packet matched so far; others pass traced functions 4,200 times a second"
    ]
    session.finish({**WHOLE, "events": 0, "produced": 0})
    assert session.lines[1:] == [
        "INFO No packet matched; others pass traced functions 4,200 times a second"
    ]


def test_hits_are_counted_between_two_polls(session: FakeSession) -> None:
    session.poll()
    assert session.is_counting
    session.poll()
    assert not session.is_counting
    session.poll(10)
    assert not session.is_counting


def test_no_traffic_is_logged(session: FakeSession) -> None:
    session.poll(10)
    assert session.lines == [
        "INFO No packet matched so far, and no other packet passed a traced function either"
    ]


def test_uncounted_hits_are_left_out(session: FakeSession) -> None:
    session.can_count = False
    session.poll(10, hits=5)
    assert session.lines == ["INFO No packet matched so far"]


def test_match_ends_counting(session: FakeSession) -> None:
    session.poll()
    session.poll(20, produced=1)
    assert not session.is_counting
    session.finish(WHOLE)
    assert session.lines == []


def test_loss_is_logged_at_start_and_end(session: FakeSession) -> None:
    session.poll(3, produced=9)
    session.poll(3, produced=9, ring_full=2)
    assert session.lines == ["WARN The ring buffer is full, events are lost: raise --buffer-size"]
    session.finish({**WHOLE, "lost_ring_full": 7})
    assert session.lines[1:] == [
        "WARN 7 events found no room in the ring: raise --buffer-size, or trace less"
    ]


def test_without_terminal_only_end_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    session = FakeSession(monkeypatch, terminal=False)
    session.poll(20, hits=5, ring_full=3)
    assert session.lines == []
    session.finish({**WHOLE, "events": 0, "produced": 0})
    assert session.lines == [
        "INFO No packet matched; others pass traced functions 10 times a second"
    ]


@pytest.mark.parametrize(
    ("flags", "option"), [("--drops", "--drops"), ("--filter-nft-handle 5", "--filter-nft-*")]
)
def test_unselected_packets_are_logged(
    monkeypatch: pytest.MonkeyPatch, flags: str, option: str
) -> None:
    session = FakeSession(monkeypatch, flags)
    session.finish({**WHOLE, "events": 0, "produced": 12, "not_shown": 12})
    assert session.lines == [f"INFO 12 events of matching packets, none for {option}"]


def test_uncertain_losses_are_no_warning() -> None:
    counters = {"lost_recursion": 3, "lost_missed": 1, "lost_nested": 2, "lost_packets": 0}
    assert loss_warnings(counters) == []
    certain = {name: 1 for name in LOSS_TEXTS if name not in counters} | {"lost_packets": 1}
    assert len(loss_warnings(certain)) == len(certain) == 8
