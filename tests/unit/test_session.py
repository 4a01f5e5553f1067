"""Batches of a session, with a fake ring; whole sessions are in tests/native."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

from pypwru.attach.report import AttachReport
from pypwru.attach.throttle import ThrottleReport
from pypwru.discovery.targets import Targets
from pypwru.needs import Needs
from pypwru.nft.service import NO_NFT_SOURCE
from pypwru.output.pipeline import Batches, Pipeline
from pypwru.ring.reader import RingReader
from pypwru.session import Batch, Session
from pypwru.signals import StopRequest
from pypwru.wire.record import RawRecord, Record
from tests.support import records
from tests.support.layouts import layout_of

RECORD = Record(bytes(32), bytes(16), 0, b"")


class FakeRing(RingReader):
    """A fake ring with batches of these lengths, which then requests the stop."""

    def __init__(self, stop_request: StopRequest, *lengths: int) -> None:
        self.stop_request = stop_request
        self.lengths = list(lengths)
        self.stopped = False

    def watch(self, fd: int) -> None:
        pass

    def read(self) -> list[RawRecord]:
        return [RECORD] * self.lengths.pop(0) if self.lengths else []

    def wait(self) -> None:
        if not self.lengths:
            self.stop_request.received = True

    def stop(self) -> None:
        self.stopped = True


class HoldingPipeline(Pipeline):
    """A pipeline that holds all batches until the end."""

    def __init__(self) -> None:
        self.held: list[Batch] = []

    def take(self, batch: Batch) -> Batches:
        self.held += [batch] if batch else []
        return []

    def finish(self) -> Batches:
        return self.held


class FakeSession:
    """A session with a fake ring, and whether it is attached."""

    def __init__(self, *lengths: int, flags: str = "", stages: Pipeline | None = None) -> None:
        config = records.configured(flags)
        self.stop_request = StopRequest(-1)
        self.ring = FakeRing(self.stop_request, *lengths)
        self.attached = True
        needs, layout = Needs.of(config), layout_of(config)
        is_drop = records.names().is_drop
        stages = stages or Pipeline(needs, layout, None, Targets(), NO_NFT_SOURCE, is_drop)
        report = AttachReport(missed_counters=[lambda: 3 if self.attached else 0])
        with ExitStack() as probes:
            probes.callback(self.mark_detached)
            plan: Any = SimpleNamespace(config=config, needs=needs, netns=0)
            loader = SimpleNamespace(hits=lambda: 0, run_stats=None)
            loaded: Any = SimpleNamespace(
                layout=layout,
                loader=loader,
                counts_runs=False,
                reader=self.ring,
                packets=None,
                map_fds={},
            )
            attached: Any = SimpleNamespace(
                report=report, throttle_report=ThrottleReport(None, {}), pollers=[]
            )
            names = records.names()
            self.session = Session(
                plan, loaded, attached, names, stages, self.stop_request, probes.pop_all()
            )

    def mark_detached(self) -> None:
        self.attached = False

    def batch_lengths(self) -> list[int]:
        return [len(batch) for batch in self.session.batches()]

    def remaining_lengths(self) -> list[int]:
        return [len(batch) for batch in self.session.drain_remaining()]


def test_batches_include_empty_ones() -> None:
    fake = FakeSession(2, 0, 3)
    assert fake.batch_lengths() == [2, 0, 3]
    assert fake.attached and not fake.ring.stopped
    assert not fake.session.limit_reached
    fake.ring.lengths = [1, 1]
    fake.session.stop()
    assert fake.ring.stopped
    assert fake.remaining_lengths() == [1, 1]


def test_limit_ends_the_session() -> None:
    fake = FakeSession(2, 3, 4, flags="--output-limit-lines=4")
    assert fake.batch_lengths() == [2, 2]
    assert fake.session.limit_reached
    assert sum(fake.remaining_lengths()) == 0


def test_detach_is_idempotent() -> None:
    fake = FakeSession(1)
    fake.session.detach()
    assert not fake.attached
    fake.session.detach()
    assert fake.session._account._missed == 3, "those of the probes that were there"


def test_held_batches_come_last() -> None:
    fake = FakeSession(2, 1, stages=HoldingPipeline())
    assert fake.batch_lengths() == [0, 0]
    fake.ring.lengths = [4]
    assert fake.remaining_lengths() == [0]
    fake.session.detach()
    assert fake.remaining_lengths() == [2, 1, 4]


def test_limit_truncates_held_batches() -> None:
    fake = FakeSession(2, 3, flags="--output-limit-lines=4", stages=HoldingPipeline())
    fake.batch_lengths()
    fake.session.detach()
    assert fake.remaining_lengths() == [2, 2]
    assert fake.session.limit_reached
