"""Results of the guests' jobs, for the tests that check them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.lab.kernels import Tier
from tests.lab.schedule import Boot
from tests.lab.suites import SUITES
from tests.lab.vm.boots import GuestError, JobError, Lab, Result
from tests.support.need import need

QEMU = "qemu-system-x86_64"
_lab: list[Lab] = []


def possible() -> bool:
    """Return whether this machine can boot guests, and this user may."""
    return bool(shutil.which(QEMU)) and os.geteuid() == 0


def begin(plan: Sequence[Boot], tier: Tier) -> Lab:
    """Start the guests of this run of the tests."""
    _lab.append(Lab(plan, tier))
    return _lab[-1]


def result(kernel: str, suite: str) -> Result:
    """Return the result of the suite's job on ``kernel``; its failure is the test's."""
    need(shutil.which(QEMU), f"{QEMU} (package qemu-system-x86)")
    need(os.geteuid() == 0, "root: the guest's file system is this machine's, read by QEMU")
    try:
        return _lab[-1].result(kernel, suite)
    except (GuestError, JobError) as error:
        pytest.fail(str(error))


def step(kernel: str, suite: str, name: str) -> Any:
    """Return one step of the job; its own failure fails only the tests that need it."""
    seen = result(kernel, suite)
    if name not in seen:
        pytest.fail(f"{kernel}: {suite} has no step {name} in this tier: its tests need mark full")
    found = seen[name]
    if "error" in found:
        pytest.fail(f"{kernel}: {name}: {found['error']}")
    return found


def with_marks(suite: str, names: Iterable[str]) -> list[ParameterSet]:
    """Return names of steps as parameters, with the mark ``full`` where the quick tier omits
    them.
    """
    later = SUITES[suite].later
    return [pytest.param(name, marks=[pytest.mark.full] * (name in later)) for name in names]
