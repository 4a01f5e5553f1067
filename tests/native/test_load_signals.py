"""Signals that interrupt the verifier, at a program that takes it a while."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from pypwru.asm.ebpf import ADD, ALU64, EXIT_PROGRAM, JLT, JMP, MOV, R0, Insn, pack
from pypwru.kernel import bpf
from pypwru.kernel.bpf import ProgramType
from tests.native.tracing import need_tracing

pytestmark = pytest.mark.native

# The verifier goes through each turn of the loop, in more than 20 ms.
LONG = pack(
    [Insn(ALU64 | MOV, R0), Insn(ALU64 | ADD, R0, imm=1), Insn(JMP | JLT, R0, off=-2, imm=200_000),
     Insn(ALU64 | MOV, R0), Insn(EXIT_PROGRAM)]
)  # fmt: skip
EACH = 0.002  # s


@pytest.fixture(autouse=True)
def _can_trace() -> None:
    need_tracing()


@contextmanager
def alarms(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Send SIGALRM every EACH seconds."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, EACH, EACH)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One element for each call of bpf(2)."""
    made: list[int] = []
    call = bpf.call

    def observed(command: int, attr: bytes) -> int:
        made.append(command)
        return call(command, attr)

    monkeypatch.setattr(bpf, "call", observed)
    return made


def test_timer_signals_do_not_fail_load(attempts: list[int]) -> None:
    with alarms(lambda number, frame: None):
        os.close(bpf.program_load(ProgramType.RAW_TRACEPOINT, "long", LONG))
    assert len(attempts) == 6, "not interrupted until signals had to wait"


def test_raising_handler_ends_load(attempts: list[int]) -> None:
    """As a second Ctrl-C does."""
    raised: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if attempts and not raised:
            raised.append(number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), alarms(stop):
        bpf.program_load(ProgramType.RAW_TRACEPOINT, "long", LONG)
    assert len(attempts) == 1
