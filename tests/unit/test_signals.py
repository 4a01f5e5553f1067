"""SIGINT, SIGTERM and SIGHUP as a stop request with a descriptor."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from pypwru.signals import manual_stop, stop_on_signals

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signal_requests_stop(number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        assert not stop.requested()
        assert select.select([stop.fd], [], [], 0)[0] == []
        signal.raise_signal(number)
        assert stop.requested()
        assert select.select([stop.fd], [], [], 10)[0] == [stop.fd]


def test_second_signal_interrupts_after_1_s() -> None:
    now = [100.0]
    with stop_on_signals(lambda: now[0]) as stop:
        for now[0] in (100.0, 100.0, 100.9):  # as of timeout(1), or of a key that is pressed twice
            signal.raise_signal(signal.SIGTERM)
        now[0] = 101.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.requested()


def test_ignored_sighup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(ValueError), stop_on_signals() as stop:
        raise ValueError
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    with pytest.raises(OSError):
        os.fstat(stop.fd)


def test_manual_stop_keeps_signals() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with manual_stop() as stop:
        assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
        assert not stop.requested()
        assert select.select([stop.fd], [], [], 0)[0] == []
        thread = threading.Thread(target=stop.request)
        thread.start()
        assert select.select([stop.fd], [], [], 10)[0] == [stop.fd]
        assert stop.requested()
        thread.join()
    with pytest.raises(OSError):
        os.fstat(stop.fd)
