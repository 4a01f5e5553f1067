"""SIGINT and SIGTERM as a question and a descriptor."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest

from pypwru.signals import call, interrupts

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_is_noted_and_wakes(number: signal.Signals) -> None:
    with interrupts() as stop:
        assert not stop.requested()
        assert select.select([stop.fd], [], [], 0)[0] == []
        signal.raise_signal(number)
        assert stop.requested()
        assert select.select([stop.fd], [], [], 10)[0] == [stop.fd]


def test_the_second_one_interrupts() -> None:
    with interrupts() as stop:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.requested()


def test_everything_is_as_before_on_the_way_out() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    with pytest.raises(ValueError), interrupts() as stop:
        raise ValueError
    assert [signal.getsignal(number) for number in BOTH] == before
    with pytest.raises(OSError):
        os.fstat(stop.fd)


def test_a_call_is_noted_and_wakes_and_leaves_signals_alone() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    with call() as wish:
        assert [signal.getsignal(number) for number in BOTH] == before
        assert not wish.requested()
        assert select.select([wish.fd], [], [], 0)[0] == []
        thread = threading.Thread(target=wish.request)
        thread.start()
        assert select.select([wish.fd], [], [], 10)[0] == [wish.fd]
        assert wish.requested()
        thread.join()
    with pytest.raises(OSError):
        os.fstat(wish.fd)
