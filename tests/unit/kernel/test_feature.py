"""Texts that follow from a feature's row."""

from __future__ import annotations

import pytest

from pypwru.kernel.feature import Feature, parse_version


def feature(since: str, *options: str) -> Feature:
    return Feature("one", since, options, lambda kernel: "", "a cost")


def test_requirement_for_messages() -> None:
    assert feature("5.18", "CONFIG_FPROBE").requirement == "Linux 5.18 and CONFIG_FPROBE"
    assert feature("5.8").requirement == "Linux 5.8"


@pytest.mark.parametrize(
    ("row", "release", "cure"),
    [
        (feature("5.18", "CONFIG_A", "CONFIG_B"), "5.10.0-44-amd64", "boot Linux 5.18 or newer, "
         "built with CONFIG_A and CONFIG_B"),
        (feature("5.18", "CONFIG_A"), "6.1.0-44-amd64", "boot a kernel built with CONFIG_A"),
        (feature("5.18"), "5.9", "boot Linux 5.18 or newer"),
        (feature("5.18"), "5.18-rc1", ""),
        (feature("", "CONFIG_A"), "6.1", "boot a kernel built with CONFIG_A"),
    ],
)  # fmt: skip
def test_cure_depends_on_running_kernel(row: Feature, release: str, cure: str) -> None:
    assert row.default_cure(release) == cure


@pytest.mark.parametrize(
    ("text", "version"),
    [("5.18", (5, 18)), ("6.12.1+deb13-amd64", (6, 12)), ("7.2-rc3", (7, 2)), ("next", (0, 0))],
)
def test_versions_compare_as_numbers(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version
