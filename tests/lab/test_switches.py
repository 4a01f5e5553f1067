"""Probes that are switched off on real kernels: who begins is told, and who traces is warned."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.lab import kernels, results
from tests.lab.jobs.main_job import FAR
from tests.lab.jobs.switches import SILENCED
from tests.lab.main_job import logged
from tests.lab.suites import fentry_backends

pytestmark = pytest.mark.lab
SUITE = "switches"
SWITCHED = [
    (kernel, switch, backend)
    for kernel, switch in itertools.product(kernels.names(SUITE), SILENCED)
    for backend in fentry_backends(kernels.kernel(kernel))
    if backend in SILENCED[switch]
]


def step(kernel: str, switch: str, backend: str) -> Any:
    return results.step(kernel, SUITE, f"{switch}-{backend}")


@pytest.mark.parametrize(("kernel", "switch", "backend"), SWITCHED)
def test_a_run_is_warned_of_what_it_does_not_see(kernel: str, switch: str, backend: str) -> None:
    seen = step(kernel, switch, backend)
    if "kept" in seen:  # this kernel doesn't let an administrator do that while it is needed
        assert seen["kept"].strip() == "1"
        return
    before, after = seen["out"][: seen["before"]], seen["out"][seen["before"] :]

    assert f"->{FAR}:0(icmp)" in before
    assert f"->{FAR}:0(icmp)" not in after
    assert f"WARN Not seeing packets: {switch} was switched off" in seen["err"]
    assert f"WARN Seeing packets again: {switch} was switched on" in seen["err"]


@pytest.mark.parametrize(("kernel", "switch", "backend"), SWITCHED)
def test_what_is_switched_off_is_not_chosen(kernel: str, switch: str, backend: str) -> None:
    seen = step(kernel, switch, backend)
    if "kept" in seen:
        return
    assert seen["refused"]["status"] == 1
    assert f"{switch} is switched off" in seen["refused"]["err"].splitlines()[-1]
    assert seen["chosen"]["status"] == 0
    assert logged(seen["chosen"]["err"], "Chose backend")["backend"] not in SILENCED[switch]
    assert f"->{FAR}:0(icmp)" in seen["chosen"]["out"]
