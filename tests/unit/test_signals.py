"""SIGINT, SIGTERM and SIGHUP as a question and a descriptor."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from pypwru.signals import manual_stop, stop_on_signals

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_is_noted_and_wakes(number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        assert not stop.requested()
        assert select.select([stop.fd], [], [], 0)[0] == []
        signal.raise_signal(number)
        assert stop.requested()
        assert select.select([stop.fd], [], [], 10)[0] == [stop.fd]


def test_a_later_one_interrupts_but_not_one_right_behind() -> None:
    now = [100.0]
    with stop_on_signals(lambda: now[0]) as stop:
        for now[0] in (100.0, 100.0, 100.9):  # as of timeout(1), and of who presses twice
            signal.raise_signal(signal.SIGTERM)
        now[0] = 101.1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.requested()


def test_nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_everything_is_as_before_on_the_way_out() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with pytest.raises(ValueError), stop_on_signals() as stop:
        raise ValueError
    assert [signal.getsignal(number) for number in STOPPING] == before
    with pytest.raises(OSError):
        os.fstat(stop.fd)


def test_a_call_is_noted_and_wakes_and_leaves_signals_alone() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with manual_stop() as wish:
        assert [signal.getsignal(number) for number in STOPPING] == before
        assert not wish.requested()
        assert select.select([wish.fd], [], [], 0)[0] == []
        thread = threading.Thread(target=wish.request)
        thread.start()
        assert select.select([wish.fd], [], [], 10)[0] == [wish.fd]
        assert wish.requested()
        thread.join()
    with pytest.raises(OSError):
        os.fstat(wish.fd)
