"""--list-functions and --features on real kernels.

Functions listed as attachable are attached, and no others; a feature is there since its version.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pypwru.discovery import function_tables
from pypwru.features.rows import FEATURES
from pypwru.kernel.feature import parse_version
from tests.lab import results
from tests.lab.kernels import Feature, names
from tests.lab.kernels import kernel as row_of
from tests.unit.discovery.test_function_tables import KERNELS as RECORDED
from tests.unit.discovery.test_function_tables import LIMITS, recorded

pytestmark = pytest.mark.lab
SUITE = "lists"
KERNELS, WITH_MODULES = names(SUITE), names(SUITE, Feature.MODULE_BTF)
# Features whose lab kernels are also known from the table of kernels: build options decide, too.
FEATURE_OF_LAB = {
    "BTF of modules": Feature.MODULE_BTF,
    "backend fentry-multi": Feature.FENTRY_MULTI,
    "backend kprobe-multi": Feature.KPROBE_MULTI,
    "drop reasons": Feature.DROP_REASONS,
}
SINCE = {feature.name: feature.since for feature in FEATURES if feature.since}


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


def document(kernel: str, name: str) -> dict[str, Any]:
    result = step(kernel, "lists")[name]
    assert result["status"] == 0, result["err"]
    found: dict[str, Any] = json.loads(result["out"])
    assert found["metadata"]["total"] == len(found["functions"])
    return found


def log_fields(result: dict[str, Any], message: str) -> list[dict[str, str]]:
    lines = [line for line in result["err"].splitlines() if message in line]
    return [dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line)) for line in lines]


@pytest.mark.step("lists")
@pytest.mark.parametrize("name", ["bare", "modules"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_levels_have_expected_sizes(kernel: str, name: str) -> None:
    functions = document(kernel, name)["functions"]
    levels = [one["priority"] for one in functions if one["attachable"]]
    for level, (least, most) in LIMITS.items():
        assert least <= sum(reached <= level for reached in levels) <= most, f"level {level}"
    assert sum(level == 3 for level in levels) > 1000


@pytest.mark.step("lists")
@pytest.mark.parametrize("name", ["bare", "modules"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_few_functions_have_no_category(kernel: str, name: str) -> None:
    found = document(kernel, name)
    other = found["statistics"]["by_category"][function_tables.OTHER]
    assert len(other) / found["metadata"]["total"] < 0.15


@pytest.mark.full
def test_each_name_in_tables_is_in_a_kernel() -> None:
    known = {
        one["name"]
        for kernel in KERNELS
        for one in document(kernel, "modules")["functions"]
        if one["attachable"]
    }
    assert function_tables.priorities("priorities").keys() - known == set()


@pytest.mark.step("lists")
@pytest.mark.parametrize("kernel", [kernel for kernel in WITH_MODULES if kernel in RECORDED])
def test_recorded_functions_are_those_of_kernel(kernel: str) -> None:
    functions = document(kernel, "modules")["functions"]
    found = {(one["name"], one["module"] or "") for one in functions if one["attachable"]}
    known = set(recorded(kernel))
    # The distribution's next build of a kernel inlines a handful of others: 11 of 3,216 from one
    # point release of 6.12 to another.
    assert len(known ^ found) < len(known) / 100, sorted(known ^ found)


@pytest.mark.step("lists")
@pytest.mark.parametrize("kernel", KERNELS)
def test_unprivileged_list_has_same_functions(kernel: str) -> None:
    unprivileged, root = document(kernel, "nobody"), document(kernel, "bare")
    assert {one["attachable"] for one in unprivileged["functions"]} == {None, False}
    assert unprivileged["metadata"]["backend"] is None
    assert "CAP_BPF" in unprivileged["metadata"]["note"]
    names = [{one["name"] for one in found["functions"]} for found in (unprivileged, root)]
    assert names[0] == names[1]
    signatures = {one["name"]: one["signature"] for one in unprivileged["functions"]}
    assert signatures["ip_rcv"].startswith("int ip_rcv(struct sk_buff *skb, ")


@pytest.mark.step("attached")
@pytest.mark.parametrize("kernel", KERNELS)
def test_all_listed_functions_are_attached(kernel: str) -> None:
    result = step(kernel, "attached")
    names = result["names"].splitlines()
    (done,) = log_fields(result["run"], "INFO Done")
    assert (int(done["attached"]), int(done["ignored"])) == (len(names), 0)
    assert "Not traced" not in result["run"]["err"]
    assert len(names) >= LIMITS[2][0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_written_list_is_traced(kernel: str) -> None:
    result = step(kernel, "example")
    names = set(result["names"].splitlines())
    assert result["run"]["status"] == 0, result["run"]["err"]
    events = [json.loads(line) for line in result["run"]["out"].splitlines()]
    functions = {event["func"].partition("(")[0] for event in events}
    assert functions <= names
    expected = {"nf_hook_slow"}
    if kernel in WITH_MODULES:  # without --kmods
        expected.add("nft_do_chain_inet[nf_tables]")
    assert expected <= functions
    missing = {
        name.strip('"'): line["why"]
        for line in log_fields(result["run"], "WARN Not traced")
        for name in line["functions"].split(", ")
    }
    assert missing.keys() == {
        "no_such_function",
        "no_such_function[nf_tables]",
        "vprintk",
        "tp:kfree_skb",
    }
    assert "not in this kernel's BTF" in missing["no_such_function"]
    assert "takes no sk_buff" in missing["vprintk"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_list_has_requested_categories_and_levels(kernel: str) -> None:
    rows = [line.split(maxsplit=6) for line in step(kernel, "example")["list"]["out"].splitlines()]
    assert rows[0] == ["NAME", "MODULE", "ARG", "CATEGORY", "PRIORITY", "ATTACH", "SIGNATURE"]
    assert {row[3] for row in rows[1:]} <= {"nft", "netfilter"}
    assert {row[4] for row in rows[1:]} == {"0", "1"}
    assert "nf_hook_slow" in {row[0] for row in rows}


def features(kernel: str, run: str = "first") -> dict[str, dict[str, Any]]:
    """Return name -> feature of the JSON object that ``run`` printed."""
    found = feature_document(kernel, run)["features"]
    return {one["name"]: one for one in found}


def feature_document(kernel: str, run: str) -> dict[str, Any]:
    result = step(kernel, "features")[run]
    assert result["status"] == 0, result["err"]
    document: dict[str, Any] = json.loads(result["out"])
    assert [one["name"] for one in document["features"]] == [one.name for one in FEATURES]
    return document


@pytest.mark.parametrize("name", SINCE)
@pytest.mark.parametrize("kernel", KERNELS)
def test_feature_is_there_since_its_version(kernel: str, name: str) -> None:
    """Debian builds all options of these rows, but CONFIG_FPROBE not before 6.12."""
    release = feature_document(kernel, "first")["metadata"]["kernel"]
    assert parse_version(release) == parse_version(row_of(kernel).version)
    is_new_enough = parse_version(release) >= parse_version(SINCE[name])
    found = features(kernel)[name]
    if name in FEATURE_OF_LAB:
        assert found["here"] is row_of(kernel).has(FEATURE_OF_LAB[name]), found["remark"]
        assert is_new_enough or not found["here"]
    else:
        assert found["here"] is is_new_enough, found["remark"]


def test_lab_kernels_have_features_since_their_versions() -> None:
    """The oldest lab kernel with a feature is not older than its row, and the newest without it is,
    unless an option is missing there.
    """
    for name, feature in FEATURE_OF_LAB.items():
        since = parse_version(SINCE[name])
        for kernel in KERNELS:
            if row_of(kernel).has(feature):
                assert parse_version(row_of(kernel).version) >= since, (name, kernel)
            elif name != "backend kprobe-multi":
                assert parse_version(row_of(kernel).version) < since, (name, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_features_have_the_automatic_backend(kernel: str) -> None:
    metadata = feature_document(kernel, "first")["metadata"]
    assert metadata["backend"] == row_of(kernel).automatic
    assert metadata["targets"] > 1000


@pytest.mark.parametrize("kernel", KERNELS)
def test_features_that_do_not_depend_on_the_version(kernel: str) -> None:
    found = features(kernel)
    for name in ("nftables", "nftables trace events", "conntrack", "kernel memory readable by BPF"):
        assert found[name]["here"] is True, found[name]["remark"]
    for name in ("kprobes switched on", "ftrace switched on"):
        assert found[name]["here"] is True, found[name]["remark"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_lack_has_cost_and_cure(kernel: str) -> None:
    lacking = [one for one in features(kernel).values() if one["here"] is False]
    assert all(one["remark"] and one["cost"] and one["cure"] for one in lacking), lacking
    text = step(kernel, "features")["table"]["out"]
    assert text.count("\n    cost: ") == len(lacking)
    assert text.count("\n    cure: ") == len(lacking)


@pytest.mark.parametrize("kernel", KERNELS)
def test_cached_features_are_the_same(kernel: str) -> None:
    assert features(kernel, "second") == features(kernel)
    assert step(kernel, "features")["kprobe_events"] == ""


@pytest.mark.parametrize("kernel", KERNELS)
def test_unprivileged_features_are_the_same_or_unknown(kernel: str) -> None:
    root = features(kernel)
    unprivileged = features(kernel, "nobody")
    for name, one in unprivileged.items():
        assert one["here"] in (root[name]["here"], None)
        assert one["here"] is not None or one["remark"] == "needs root"
    assert feature_document(kernel, "nobody")["metadata"]["backend"] is None
    assert {unprivileged[name]["here"] for name in ("drop reasons", "BTF of the kernel")} <= {
        True,
        False,
    }
