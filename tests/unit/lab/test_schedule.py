"""The lab's plan: jobs share guests, and tests outside of a tier are deselected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache

import pytest

from tests.lab.kernels import EVERY, KERNELS, Tier
from tests.lab.schedule import Boot, boots
from tests.lab.suites import SUITES
from tests.support.paths import TREE
from tests.unit.lab.test_kernels import NATIVE


def jobs_of(tier: Tier) -> set[tuple[str, str]]:
    return {
        (row.name, suite)
        for row in KERNELS
        for suite in (row.quick if tier is Tier.QUICK else row.full)
        if suite in SUITES
    }


@pytest.mark.parametrize("tier", Tier)
def test_each_job_runs_once(tier: Tier) -> None:
    plan = boots(jobs_of(tier), tier)
    ran = [(boot.kernel, suite) for boot in plan for suite in boot.suites]
    assert sorted(ran) == sorted(jobs_of(tier))


@pytest.mark.parametrize("tier", Tier)
def test_order_and_isolation_of_jobs(tier: Tier) -> None:
    for boot in boots(jobs_of(tier), tier):
        assert not any(SUITES[suite].first for suite in boot.suites[1:])
        assert len(boot.suites) == 1 or not any(SUITES[suite].alone for suite in boot.suites)


@pytest.mark.parametrize("tier", Tier)
def test_longest_guest_is_first(tier: Tier) -> None:
    seconds = [boot.seconds(tier) for boot in boots(jobs_of(tier), tier)]
    assert seconds == sorted(seconds, reverse=True)


def test_quick_tier_boots_a_kernel_once() -> None:
    plan = boots(jobs_of(Tier.QUICK), Tier.QUICK)
    shared = [boot.kernel for boot in plan if not SUITES[boot.suites[0]].alone]
    assert len(shared) == len(set(shared))


def test_single_job_has_one_boot() -> None:
    assert boots({("6.1", "drops")}, Tier.FULL) == [Boot("6.1", ("drops",))]


@cache
def collect(tier: str) -> tuple[list[str], int]:
    """Return the lab's tests in a tier, and the number that pytest deselected."""
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYPWRU_TIER": tier}
    done = subprocess.run(
        [*words, "tests/lab"], cwd=TREE, env=environment, capture_output=True, text=True, check=True
    )
    deselected = re.search(r"\((\d+) deselected\)", done.stdout)
    tests = [line for line in done.stdout.splitlines() if "::" in line]
    return tests, int(deselected[1]) if deselected else 0


def test_full_tier_deselects_nothing() -> None:
    assert collect("full")[1] == 0
    assert collect("full") == collect("")


def test_quick_tier_counts_deselected() -> None:
    (quick, deselected), (full, _) = collect("quick"), collect("full")
    assert set(quick) < set(full)
    assert len(quick) + deselected == len(full)


def test_quick_tier_has_tests_of_each_suite() -> None:
    quick = collect("quick")[0]
    for row in KERNELS:
        for suite in row.quick:
            module = "main_job|parity|legacy" if suite == "main_job" else suite
            pattern = rf"/test_({module})(_flags)?\.py::.*\[.*\b{re.escape(row.name)}\b"
            assert any(re.search(pattern, test) for test in quick), (row.name, suite)
    assert {suite for row in KERNELS for suite in row.quick} == EVERY - NATIVE
