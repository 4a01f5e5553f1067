"""What jobs left in their guests, for the tests that judge it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

import pytest

from tests.lab.kernels import Tier
from tests.lab.schedule import Boot
from tests.lab.vm.boots import GuestError, JobError, Lab, Result
from tests.support.need import need

QEMU = "qemu-system-x86_64"
_lab: list[Lab] = []


def possible() -> bool:
    """Whether this machine can boot guests, and this user may."""
    return bool(shutil.which(QEMU)) and os.geteuid() == 0


def begin(plan: Sequence[Boot], tier: Tier, beside: bool) -> Lab:
    """Begin the guests of this run of the tests."""
    _lab.append(Lab(plan, tier, beside))
    return _lab[-1]


def result(kernel: str, suite: str) -> Result:
    """All that the suite's job left on ``kernel``; its failure is the test's."""
    need(shutil.which(QEMU), f"{QEMU} (package qemu-system-x86)")
    need(os.geteuid() == 0, "root: the guest's file system is this machine's, read by QEMU")
    try:
        return _lab[-1].result(kernel, suite)
    except (GuestError, JobError) as error:
        pytest.fail(str(error))


def step(kernel: str, suite: str, name: str) -> Any:
    """One step of the job; its own failure fails only the tests that need it."""
    found = result(kernel, suite)[name]
    if "error" in found:
        pytest.fail(f"{kernel}: {name}: {found['error']}")
    return found
