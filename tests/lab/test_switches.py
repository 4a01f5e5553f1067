"""Probes that are switched off on real kernels: a start is refused, a running trace logs a
warning.
"""

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
def test_switched_off_probes_are_logged(kernel: str, switch: str, backend: str) -> None:
    result = step(kernel, switch, backend)
    if "kept" in result:  # this kernel doesn't allow it while the switch is in use
        assert result["kept"].strip() == "1"
        return
    before, after = result["out"][: result["before"]], result["out"][result["before"] :]

    assert f"->{FAR}:0(icmp)" in before
    assert f"->{FAR}:0(icmp)" not in after
    assert f"WARN Not seeing packets: {switch} was switched off" in result["err"]
    assert f"WARN Seeing packets again: {switch} was switched on" in result["err"]


@pytest.mark.parametrize(("kernel", "switch", "backend"), SWITCHED)
def test_switched_off_backend_is_not_selected(kernel: str, switch: str, backend: str) -> None:
    result = step(kernel, switch, backend)
    if "kept" in result:
        return
    assert result["refused"]["status"] == 1
    assert f"{switch} is switched off" in result["refused"]["err"].splitlines()[-1]
    assert result["automatic"]["status"] == 0
    assert logged(result["automatic"]["err"], "Chose backend")["backend"] not in SILENCED[switch]
    assert f"->{FAR}:0(icmp)" in result["automatic"]["out"]
