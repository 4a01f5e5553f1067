"""What a session gives of its ring, and when; whole sessions are in tests/native."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

from pypwru.attach.report import AttachReport
from pypwru.attach.throttle import ThrottleReport
from pypwru.nft.service import NO_NFT_SOURCE
from pypwru.output.pipeline import Batches, Pipeline
from pypwru.ring.reader import RingReader
from pypwru.session import Batch, Session
from pypwru.signals import StopRequest
from pypwru.wire.record import RawRecord, Record
from tests.support import records

ONE = Record(bytes(32), bytes(16), 0, b"")


class Lengths(RingReader):
    """A ring that gives batches of these lengths, and then wants the end."""

    def __init__(self, wanted: StopRequest, *lengths: int) -> None:
        self.wanted = wanted
        self.lengths = list(lengths)
        self.stopped = False

    def watch(self, fd: int) -> None:
        pass

    def read(self) -> list[RawRecord]:
        return [ONE] * self.lengths.pop(0) if self.lengths else []

    def wait(self) -> None:
        if not self.lengths:
            self.wanted.received = True

    def stop(self) -> None:
        self.stopped = True


class Late(Pipeline):
    """Holds everything until the end."""

    def __init__(self) -> None:
        self.held: list[Batch] = []

    def take(self, batch: Batch) -> Batches:
        self.held += [batch] if batch else []
        return []

    def finish(self) -> Batches:
        return self.held


class Traced:
    """A session, and whether it is attached."""

    def __init__(self, *lengths: int, flags: str = "", stages: Pipeline | None = None) -> None:
        config = records.configured(flags)
        self.wanted = StopRequest(-1)
        self.ring = Lengths(self.wanted, *lengths)
        self.attached = True
        stages = stages or Pipeline(config, {}, NO_NFT_SOURCE, records.names().is_drop)
        report = AttachReport(missed_counters=[lambda: 3 if self.attached else 0])
        with ExitStack() as probes:
            probes.callback(self.let_go)
            plan: Any = SimpleNamespace(config=config, netns=0)
            loader = SimpleNamespace(hits=lambda: 0, run_stats=None)
            loaded: Any = SimpleNamespace(
                loader=loader, counts_runs=False, reader=self.ring, packets=None, map_fds={}
            )
            attached: Any = SimpleNamespace(
                report=report, throttle_report=ThrottleReport(None, {}), pollers=[]
            )
            names = records.names()
            self.session = Session(
                plan, loaded, attached, names, stages, self.wanted, probes.pop_all()
            )

    def let_go(self) -> None:
        self.attached = False

    def live(self) -> list[int]:
        return [len(batch) for batch in self.session.batches()]

    def rest(self) -> list[int]:
        return [len(batch) for batch in self.session.drain_remaining()]


def test_batches_are_given_as_they_come_empty_ones_too() -> None:
    traced = Traced(2, 0, 3)
    assert traced.live() == [2, 0, 3]
    assert traced.attached and not traced.ring.stopped
    assert not traced.session.limit_reached
    traced.ring.lengths = [1, 1]
    traced.session.stop()
    assert traced.ring.stopped
    assert traced.rest() == [1, 1]


def test_the_limit_ends_it_whatever_is_left() -> None:
    traced = Traced(2, 3, 4, flags="--output-limit-lines=4")
    assert traced.live() == [2, 2]
    assert traced.session.limit_reached
    assert sum(traced.rest()) == 0


def test_detaching_is_done_once() -> None:
    traced = Traced(1)
    traced.session.detach()
    assert not traced.attached
    traced.session.detach()
    assert traced.session._account._missed == 3, "those of the probes that were there"


def test_what_is_held_comes_last() -> None:
    traced = Traced(2, 1, stages=Late())
    assert traced.live() == [0, 0]
    traced.ring.lengths = [4]
    assert traced.rest() == [0]
    traced.session.detach()
    assert traced.rest() == [2, 1, 4]


def test_what_is_held_is_cut_too() -> None:
    traced = Traced(2, 3, flags="--output-limit-lines=4", stages=Late())
    traced.live()
    traced.session.detach()
    assert traced.rest() == [2, 2]
    assert traced.session.limit_reached
