"""Guests that die: booted again once, for what they owed, and counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

from tests.lab.kernels import Tier
from tests.lab.schedule import Boot
from tests.lab.vm.boots import Guest, GuestError, JobError, Lab
from tests.lab.vm.lines import Hung, lines

PLAN = [Boot("6.1", ("main_job", "drops"))]


def lab(monkeypatch: pytest.MonkeyPatch, boot: Callable[[Lab, Guest], None]) -> Lab:
    monkeypatch.setattr(Lab, "_boot", boot)
    return Lab(PLAN, Tier.QUICK, beside=False)


def finish(made: Lab, kernel: str, suites: Sequence[str]) -> None:
    for suite in suites:
        made._results[kernel, suite].set_result({"of": suite})


def test_a_guest_that_dies_is_booted_again_for_what_it_owed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owed: list[tuple[str, ...]] = []

    def boot(self: Lab, guest: Guest) -> None:
        owed.append(guest.boot.suites)
        if len(owed) == 1:
            finish(self, "6.1", ["main_job"])
            raise GuestError("the guest died; its console's last lines:\npanic")
        finish(self, "6.1", ["drops"])

    made = lab(monkeypatch, boot)
    assert made.result("6.1", "main_job") == {"of": "main_job"}
    assert made.result("6.1", "drops") == {"of": "drops"}
    made.end()
    assert owed == [("main_job", "drops"), ("drops",)]
    assert list(made.report())[-2:] == [
        "1 guest was booted again",
        "  6.1 main_job drops: the guest died; its console's last lines:",
    ]


def test_one_that_dies_twice_fails_its_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    def boot(self: Lab, guest: Guest) -> None:
        raise GuestError("the guest hung")

    made = lab(monkeypatch, boot)
    with pytest.raises(GuestError, match="hung"):
        made.result("6.1", "drops")
    made.end()
    assert len(made.guests) == 2


def test_a_job_that_fails_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def boot(self: Lab, guest: Guest) -> None:
        self._results["6.1", "main_job"].set_exception(JobError("it ended with 1"))
        finish(self, "6.1", ["drops"])

    made = lab(monkeypatch, boot)
    with pytest.raises(JobError):
        made.result("6.1", "main_job")
    assert made.result("6.1", "drops") == {"of": "drops"}
    made.end()
    assert len(made.guests) == 1
    assert "0 guests were booted again" in made.report()


def test_lines_come_as_they_are_written_and_silence_is_a_hang() -> None:
    reading, writing = os.pipe()
    with open(reading) as pipe, open(writing, "wb", buffering=0) as end:
        end.write(b"one\ntw")
        found = lines(pipe, silence=0.01)
        assert next(found) == "one"
        end.write(b"o\n")
        assert next(found) == "two"
        with pytest.raises(Hung):
            next(found)


def test_lines_end_with_the_last_writer() -> None:
    reading, writing = os.pipe()
    with open(reading) as pipe:
        with open(writing, "wb", buffering=0) as end:
            end.write(b"one\n")
        assert list(lines(pipe, silence=60)) == ["one"]
