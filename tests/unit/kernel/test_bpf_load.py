"""Program loads that signals interrupt, and loads that are refused; bpf(2) is faked."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

import pytest

from pypwru.kernel import bpf
from pypwru.kernel.bpf import ProgramType, VerifierError

FD = 42
BpfCall = Callable[[bytes], int]


def interrupt(attr: bytes) -> int:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def refuse(attr: bytes) -> int:
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def succeed(attr: bytes) -> int:
    return FD


def succeed_if_blocked(attr: bytes) -> int:
    """Load only if signals are blocked."""
    if signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return FD
    return interrupt(attr)


def load(results: list[BpfCall], monkeypatch: pytest.MonkeyPatch) -> int:
    """Load with attempts that end like ``results``; the last one repeats."""
    remaining = list(results)

    def fake_call(command: int, attr: bytes) -> int:
        return (remaining.pop(0) if len(remaining) > 1 else remaining[0])(attr)

    monkeypatch.setattr(bpf, "call", fake_call)
    return bpf.program_load(ProgramType.RAW_TRACEPOINT, "test", bytes(8))


@pytest.mark.parametrize("times", range(6))
def test_interrupted_load_is_retried(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load([*[interrupt] * times, succeed], monkeypatch) == FD


def test_last_attempt_blocks_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert load([succeed_if_blocked], monkeypatch) == FD
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_interrupt_is_not_a_verifier_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BlockingIOError):
        load([interrupt], monkeypatch)
    with pytest.raises(BlockingIOError):
        load([refuse, interrupt], monkeypatch)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_memory_is_not_a_verifier_error(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry for the verifier's log would log a program that the verifier accepts."""
    attempts: list[bytes] = []

    def raise_code(attr: bytes) -> int:
        attempts.append(attr)
        raise OSError(code, os.strerror(code))

    with pytest.raises(OSError) as caught:
        load([raise_code], monkeypatch)
    assert caught.value.errno == code and not isinstance(caught.value, VerifierError)
    assert len(attempts) == 1


def test_refused_load_is_repeated_for_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[bytes] = []

    def count_and_refuse(attr: bytes) -> int:
        attempts.append(attr)
        return refuse(attr)

    with pytest.raises(PermissionError) as caught:
        load([count_and_refuse], monkeypatch)
    assert not isinstance(caught.value, VerifierError), "the kernel wrote no log"
    assert len(attempts) == 2
