"""A program load that signals interrupt, told from one that is refused; bpf(2) is played here."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

import pytest

from pypwru.kernel import bpf
from pypwru.kernel.bpf import ProgramType, VerifierError

FD = 42
Answer = Callable[[bytes], int]


def interrupted(attr: bytes) -> int:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def refused(attr: bytes) -> int:
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def loaded(attr: bytes) -> int:
    return FD


def blocked(attr: bytes) -> int:
    """Loads only where signals wait."""
    if signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return FD
    return interrupted(attr)


def load(answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> int:
    """A load whose attempts end like ``answers``, the last one for all that follow."""
    left = list(answers)

    def call(command: int, attr: bytes) -> int:
        return (left.pop(0) if len(left) > 1 else left[0])(attr)

    monkeypatch.setattr(bpf, "call", call)
    return bpf.program_load(ProgramType.RAW_TRACEPOINT, "test", bytes(8))


@pytest.mark.parametrize("times", range(6))
def test_an_interrupted_load_is_tried_again(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load([*[interrupted] * times, loaded], monkeypatch) == FD


def test_the_last_attempt_has_signals_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert load([blocked], monkeypatch) == FD
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_an_interruption_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BlockingIOError):
        load([interrupted], monkeypatch)
    with pytest.raises(BlockingIOError):
        load([refused, interrupted], monkeypatch)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_room_for_a_program_is_no_refusal(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier would write the log of a program that it takes."""
    attempts: list[bytes] = []

    def full(attr: bytes) -> int:
        attempts.append(attr)
        raise OSError(code, os.strerror(code))

    with pytest.raises(OSError) as caught:
        load([full], monkeypatch)
    assert caught.value.errno == code and not isinstance(caught.value, VerifierError)
    assert len(attempts) == 1


def test_a_refusal_is_not_repeated_but_for_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[bytes] = []

    def counted(attr: bytes) -> int:
        attempts.append(attr)
        return refused(attr)

    with pytest.raises(PermissionError) as caught:
        load([counted], monkeypatch)
    assert not isinstance(caught.value, VerifierError), "the kernel wrote no log"
    assert len(attempts) == 2
