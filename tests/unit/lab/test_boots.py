"""Guests that die: booted again once, for their remaining jobs, and counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

from tests.lab.kernels import Tier
from tests.lab.schedule import Boot
from tests.lab.vm.boots import Guest, GuestError, JobError, Lab
from tests.lab.vm.lines import Hung, lines

PLAN = [Boot("6.1", ("main_job", "drops"))]


def start_lab(monkeypatch: pytest.MonkeyPatch, boot: Callable[[Lab, Guest], None]) -> Lab:
    monkeypatch.setattr(Lab, "_boot", boot)
    return Lab(PLAN, Tier.QUICK)


def finish(started: Lab, kernel: str, suites: Sequence[str]) -> None:
    for suite in suites:
        started._results[kernel, suite].set_result({"of": suite})


def test_dead_guest_is_rebooted_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    booted: list[tuple[str, ...]] = []

    def boot(self: Lab, guest: Guest) -> None:
        booted.append(guest.boot.suites)
        if len(booted) == 1:
            finish(self, "6.1", ["main_job"])
            raise GuestError("the guest died; its console's last lines:\npanic")
        finish(self, "6.1", ["drops"])

    started = start_lab(monkeypatch, boot)
    assert started.result("6.1", "main_job") == {"of": "main_job"}
    assert started.result("6.1", "drops") == {"of": "drops"}
    started.end()
    assert booted == [("main_job", "drops"), ("drops",)]
    assert list(started.report())[-2:] == [
        "1 guest was booted again",
        "  6.1 main_job drops: the guest died; its console's last lines:",
    ]


def test_guest_that_dies_twice_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def boot(self: Lab, guest: Guest) -> None:
        raise GuestError("the guest hung")

    started = start_lab(monkeypatch, boot)
    with pytest.raises(GuestError, match="hung"):
        started.result("6.1", "drops")
    started.end()
    assert len(started.guests) == 2


def test_failed_job_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def boot(self: Lab, guest: Guest) -> None:
        self._results["6.1", "main_job"].set_exception(JobError("it ended with 1"))
        finish(self, "6.1", ["drops"])

    started = start_lab(monkeypatch, boot)
    with pytest.raises(JobError):
        started.result("6.1", "main_job")
    assert started.result("6.1", "drops") == {"of": "drops"}
    started.end()
    assert len(started.guests) == 1
    assert "0 guests were booted again" in started.report()


def test_silence_is_a_hang() -> None:
    reading, writing = os.pipe()
    with open(reading) as pipe, open(writing, "wb", buffering=0) as end:
        end.write(b"one\ntw")
        found = lines(pipe, silence=0.01)
        assert next(found) == "one"
        end.write(b"o\n")
        assert next(found) == "two"
        with pytest.raises(Hung):
            next(found)


def test_lines_end_with_the_pipe() -> None:
    reading, writing = os.pipe()
    with open(reading) as pipe:
        with open(writing, "wb", buffering=0) as end:
            end.write(b"one\n")
        assert list(lines(pipe, silence=60)) == ["one"]
