"""Tracepoints and programs that the kernel refuses; tests/native has whole runs."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

import pytest

from pypwru.attach import tracepoint
from pypwru.attach.report import AttachReport
from pypwru.discovery.plan import AttachPlan, plan_tracepoints
from pypwru.discovery.tracepoints import Tracepoint
from pypwru.errors import KernelError
from pypwru.kernel import bpf
from pypwru.log import Log
from pypwru.program.load import Loader

NAMES = ("kfree_skb", "consume_skb", "net_dev_queue")


class FakeLoader(Loader):
    """Return descriptors of a file as programs; refuse number ``refused``, counted from 0."""

    def __init__(self, stack: ExitStack, refused: int | None = None) -> None:
        self.stack = stack
        self.refused = refused
        self.loaded = 0

    def load(self, *_: object, **__: object) -> int:
        if self.loaded == self.refused:
            raise KernelError("the verifier refused it")
        self.loaded += 1
        fd = os.open("/dev/null", os.O_RDONLY)
        self.stack.callback(os.close, fd)
        return fd


def plan() -> AttachPlan:
    return plan_tracepoints(tuple(Tracepoint(name, 0, None, "drop", 0) for name in NAMES))


def test_refused_tracepoint_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def open_tracepoint(name: str, program: int) -> int:
        if name == NAMES[1]:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return os.dup(program)

    monkeypatch.setattr(bpf, "raw_tracepoint_open", open_tracepoint)
    report = AttachReport()
    with ExitStack() as stack, tracepoint.attach(plan(), FakeLoader(stack), report, Log(None)):
        assert report.target_count == 2
        assert report.targets == {1: "tp:kfree_skb", 3: "tp:net_dev_queue"}
        assert report.ignored == [(NAMES[1], "Device or resource busy")]


def test_refused_program_detaches_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attached: list[int] = []

    def open_tracepoint(_: str, program: int) -> int:
        attached.append(os.dup(program))
        return attached[-1]

    monkeypatch.setattr(bpf, "raw_tracepoint_open", open_tracepoint)
    report = AttachReport()
    with (
        ExitStack() as stack,
        pytest.raises(KernelError, match="the verifier refused it"),
        tracepoint.attach(plan(), FakeLoader(stack, refused=1), report, Log(None)),
    ):
        pytest.fail("it listens")
    assert len(attached) == 1
    with pytest.raises(OSError):
        os.fstat(attached[0])
