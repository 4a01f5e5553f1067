"""The lab's table of kernels: each suite runs on its former kernels, or more."""

from __future__ import annotations

import pytest

from tests.lab.kernels import EVERY, KERNELS, REFERENCE, Feature, Kernel, Tier, kernel, names, runs
from tests.lab.suites import SUITES, fentry_backends
from tests.lab.vm.packages import image_package
from tests.support.paths import TREE

ALL = ("5.10", "6.1", "6.12", "7.2")
# The kernels of a suite when there was one tier: the full tier has no fewer.
MIN_KERNELS = dict.fromkeys(EVERY, ALL) | {
    "corpus": ("5.10", "6.12", "7.2"),
    "rule_texts": ("5.10", "6.12"),
    "statistics": ("6.1", "6.12"),
    "storm": ("6.12",),
}
NATIVE = {"storm"}
"""Suites with a native test of the same name as their quick tier."""


@pytest.mark.parametrize("suite", sorted(EVERY))
def test_full_tier_has_min_kernels(suite: str) -> None:
    assert set(MIN_KERNELS[suite]) <= set(names(suite))


@pytest.mark.parametrize("suite", sorted(EVERY - NATIVE))
def test_quick_tier_has_each_suite(suite: str) -> None:
    quick = {row.name for row in KERNELS if suite in row.quick}
    assert quick
    assert quick <= set(names(suite))


def test_suites_not_in_quick_are_native() -> None:
    for suite in NATIVE:
        assert not any(suite in row.quick for row in KERNELS)
        assert (TREE / "tests" / "native" / f"test_{suite}.py").exists()


def test_quick_tier_has_main_job_on_all() -> None:
    assert all(runs("main_job", name, Tier.QUICK) for name in ALL)


def test_each_suite_has_a_row() -> None:
    assert {*SUITES, "vm"} == EVERY  # which boots its own guests
    assert all(set(row.quick) <= EVERY and set(row.full) <= EVERY for row in KERNELS)


def test_one_reference_kernel() -> None:
    assert [row.name for row in KERNELS if row.reference] == [REFERENCE]
    assert len({row.name for row in KERNELS}) == len(KERNELS)


def test_backends_follow_from_features() -> None:
    found = {name: (kernel(name).automatic_for_few, kernel(name).automatic) for name in ALL}
    assert found == {
        "5.10": ("fentry", "kprobe"),
        "6.1": ("fentry", "kprobe"),
        "6.12": ("kprobe-multi", "kprobe-multi"),
        "7.2": ("fentry-multi", "fentry-multi"),
    }
    backends = {name: fentry_backends(kernel(name)) for name in ALL}
    assert backends["5.10"] == ["fentry", "kprobe"]
    assert backends["7.2"] == ["fentry-multi", "fentry", "kprobe-multi"]


def test_names_by_feature() -> None:
    assert "5.10" not in names("lists", Feature.MODULE_BTF)
    assert "7.2" in names("lists", Feature.MODULE_BTF)
    assert "6.1" in names("main_job", Feature.KFREE_SKB_REASON)
    assert set(names("main_job", Feature.KPROBE_MULTI)) >= {"6.12", "7.2"}


@pytest.mark.parametrize(
    ("version", "package"),
    [
        ("5.10", "linux-image-5.10.0-32-amd64"),
        ("6.12", "linux-image-6.12.117+deb13-amd64"),
        ("6.12", "linux-image-6.12.57+deb12-amd64"),
        ("7.3", "linux-image-7.3-rc5-amd64"),
    ],
)
def test_package_is_found_by_version(version: str, package: str) -> None:
    assert image_package(version).fullmatch(package)


@pytest.mark.parametrize(
    "package",
    [
        "linux-image-6.12.117+deb13-cloud-amd64",
        "linux-image-6.12.117+deb13-rt-amd64",
        "linux-image-6.12.117+deb13-amd64-unsigned",
        "linux-image-6.1.0-50-amd64",
        "linux-image-6.120.1-amd64",
    ],
)
def test_other_packages_do_not_match(package: str) -> None:
    assert not image_package("6.12").fullmatch(package)


def test_second_package_of_a_version() -> None:
    row = Kernel("6.12-bpo", ("bookworm-backports",), (), quick=(), series="6.12")
    assert row.version == "6.12"
    assert kernel("6.12").version == "6.12"
