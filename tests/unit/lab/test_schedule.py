"""The lab's plan: jobs share guests, and tests of what a tier leaves out are deselected."""

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


def needed(tier: Tier) -> set[tuple[str, str]]:
    return {
        (row.name, suite)
        for row in KERNELS
        for suite in (row.quick if tier is Tier.QUICK else row.full)
        if suite in SUITES
    }


@pytest.mark.parametrize("tier", Tier)
def test_each_job_runs_once(tier: Tier) -> None:
    plan = boots(needed(tier), tier)
    ran = [(boot.kernel, suite) for boot in plan for suite in boot.suites]
    assert sorted(ran) == sorted(needed(tier))


@pytest.mark.parametrize("tier", Tier)
def test_who_comes_first_does_and_who_is_alone_is(tier: Tier) -> None:
    for boot in boots(needed(tier), tier):
        assert not any(SUITES[suite].first for suite in boot.suites[1:])
        assert len(boot.suites) == 1 or not any(SUITES[suite].alone for suite in boot.suites)


@pytest.mark.parametrize("tier", Tier)
def test_the_longest_guest_is_begun_first(tier: Tier) -> None:
    seconds = [boot.seconds(tier) for boot in boots(needed(tier), tier)]
    assert seconds == sorted(seconds, reverse=True)


def test_the_quick_tier_boots_a_kernel_once_and_once_more_for_who_is_alone() -> None:
    plan = boots(needed(Tier.QUICK), Tier.QUICK)
    shared = [boot.kernel for boot in plan if not SUITES[boot.suites[0]].alone]
    assert len(shared) == len(set(shared))


def test_one_test_alone_boots_for_its_job_alone() -> None:
    assert boots({("6.1", "drops")}, Tier.FULL) == [Boot("6.1", ("drops",))]


@cache
def collected(tier: str) -> tuple[list[str], int]:
    """The lab's tests in a tier, and how many pytest says to have deselected."""
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYPWRU_TIER": tier}
    done = subprocess.run(
        [*words, "tests/lab"], cwd=TREE, env=environment, capture_output=True, text=True, check=True
    )
    deselected = re.search(r"\((\d+) deselected\)", done.stdout)
    tests = [line for line in done.stdout.splitlines() if "::" in line]
    return tests, int(deselected[1]) if deselected else 0


def test_the_full_tier_deselects_nothing() -> None:
    assert collected("full")[1] == 0
    assert collected("full") == collected("")


def test_what_the_quick_tier_leaves_out_is_deselected_and_counted() -> None:
    (quick, deselected), (full, _) = collected("quick"), collected("full")
    assert set(quick) < set(full)
    assert len(quick) + deselected == len(full)


def test_the_quick_tier_has_tests_of_each_kernel_and_each_suite() -> None:
    quick = collected("quick")[0]
    for row in KERNELS:
        for suite in row.quick:
            module = "main_job|parity|legacy" if suite == "main_job" else suite
            own = rf"/test_({module})(_flags)?\.py::.*\[.*\b{re.escape(row.name)}\b"
            assert any(re.search(own, test) for test in quick), (row.name, suite)
    assert {suite for row in KERNELS for suite in row.quick} == EVERY - NATIVE
