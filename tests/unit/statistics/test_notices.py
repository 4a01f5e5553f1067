"""What is said in words of events that are missing, and when."""

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
from tests.support import records

WHOLE = {"events": 4, "produced": 4, "not_shown": 0, "lost_ring_full": 0}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Told:
    """What is said of a session with these flags, half a second after the other."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, flags: str = "", terminal: bool = True
    ) -> None:
        self.hits, self.counted = 0, Counters()
        self.is_counting, self.may_count = False, True
        self._now = 0.0
        self._stream = Terminal() if terminal else io.StringIO()
        monkeypatch.setattr(notices, "enable_bpf_stats", self._runs_counted)
        session = SimpleNamespace(
            config=records.configured(flags),
            handler_counters=lambda: self.counted,
            hits=lambda: self.hits,
        )
        self._notices = notices.LossNotices(session, Log(self._stream), lambda: self._now)

    @contextmanager
    def _runs_counted(self) -> Iterator[bool]:
        self.is_counting = self.may_count
        yield self.may_count
        self.is_counting = False

    def poll(self, times: int = 1, hits: int = 0, **counted: int) -> None:
        for _ in range(times):
            self._now += 0.5
            self.hits += hits if self.is_counting else 0
            self.counted = Counters(**counted)
            self._notices.poll()

    def finish(self, account: Mapping[str, int]) -> None:
        self._notices.finish(account)

    @property
    def lines(self) -> list[str]:
        return [re.sub(r"^\S+ \S+ ", "", line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_a_filter_that_matches_nothing(told: Told) -> None:
    told.poll(6, hits=2100)
    assert told.lines == []
    told.poll(20, hits=2100)
    assert told.lines == [
        "INFO No packet matched so far; others pass traced functions 4,200 times a second"
    ]
    told.finish({**WHOLE, "events": 0, "produced": 0})
    assert told.lines[1:] == [
        "INFO No packet matched; others pass traced functions 4,200 times a second"
    ]


def test_hits_are_counted_for_half_a_second(told: Told) -> None:
    told.poll()
    assert told.is_counting
    told.poll()
    assert not told.is_counting
    told.poll(10)
    assert not told.is_counting


def test_no_traffic_at_all(told: Told) -> None:
    told.poll(10)
    assert told.lines == [
        "INFO No packet matched so far, and no other packet passed a traced function either"
    ]


def test_who_may_not_count_hits_is_told_the_rest(told: Told) -> None:
    told.may_count = False
    told.poll(10, hits=5)
    assert told.lines == ["INFO No packet matched so far"]


def test_a_packet_that_matches_ends_it(told: Told) -> None:
    told.poll()
    told.poll(20, produced=1)
    assert not told.is_counting
    told.finish(WHOLE)
    assert told.lines == []


def test_loss_is_told_when_it_begins_and_in_the_end(told: Told) -> None:
    told.poll(3, produced=9)
    told.poll(3, produced=9, ring_full=2)
    assert told.lines == ["WARN The ring buffer is full, events are lost: raise --buffer-size"]
    told.finish({**WHOLE, "lost_ring_full": 7})
    assert told.lines[1:] == [
        "WARN 7 events found no room in the ring: raise --buffer-size, or trace less"
    ]


def test_without_a_terminal_it_is_told_in_the_end_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch, terminal=False)
    told.poll(20, hits=5, ring_full=3)
    assert told.lines == []
    told.finish({**WHOLE, "events": 0, "produced": 0})
    assert told.lines == ["INFO No packet matched; others pass traced functions 10 times a second"]


@pytest.mark.parametrize(
    ("flags", "asked"), [("--drops", "--drops"), ("--filter-nft-handle 5", "--filter-nft-*")]
)
def test_packets_that_match_and_are_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, flags: str, asked: str
) -> None:
    told = Told(monkeypatch, flags)
    told.finish({**WHOLE, "events": 0, "produced": 12, "not_shown": 12})
    assert told.lines == [f"INFO 12 events of matching packets, none for {asked}"]


def test_what_nobody_knows_to_be_a_loss_is_no_warning() -> None:
    account = {"lost_recursion": 3, "lost_missed": 1, "lost_nested": 2, "lost_packets": 0}
    assert loss_warnings(account) == []
    sure = {name: 1 for name in LOSS_TEXTS if name not in account} | {"lost_packets": 1}
    assert len(loss_warnings(sure)) == len(sure) == 8
