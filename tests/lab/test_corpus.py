"""Rulesets as programs and people write them: each event has its own rule's verdict and text.

They are the files of the folder ``truth/corpus``, written after the documentation that the first
line of each names. The oracles are the kernel's trace records, ``nft monitor trace``, ``nft -a list
ruleset`` and ``iptables-nft-save``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab import results
from tests.lab.jobs.corpus import LARGE, QUICK
from tests.lab.kernels import Feature, kernel, names, tier
from tests.lab.main_job import logged
from tests.lab.suites import corpus_names
from tests.lab.truth.rulefiles import features, files

pytestmark = pytest.mark.lab
SUITE = "corpus"
KERNELS = names(SUITE)
RULESETS = [
    pytest.param(file, id=file.name, marks=[pytest.mark.full] * (file.name not in QUICK))
    for file in files()
]


def step(name: str, of: str) -> Any:
    return results.step(name, SUITE, of)


def has(name: str, needs: list[str]) -> bool:
    return all(kernel(name).has(Feature[each]) for each in needs)


CASES = [
    pytest.param(name, *file.values, id=f"{name}-{file.id}", marks=file.marks)
    for name in KERNELS
    for file in RULESETS
    if has(name, features(file.values[0]))  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("kernel", "file"), CASES)
def test_event_has_verdict_and_text_of_rule(kernel: str, file: Any) -> None:
    result = step(kernel, file.name)
    for kind in ("mismatches", "texts that differ", "texts that nft monitor differs in"):
        assert not result[kind], f"{kind}:\n" + "\n".join(result[kind])
    assert result["unknown"] == 0, "packets after the ready file whose rules have no text"
    assert result["packets"] >= 1
    assert result["records"] >= result["texts"] >= result["rules"] >= min(result["monitored"], 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_many_rules_are_compared_and_none_lost(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = step(kernel, "pypwru")
    done = logged(run["err"], "Done")
    assert run["status"] == 0
    assert done["lost_ring_full"] == done["lost_verdicts"] == done["not_shown"] == "0"
    assert "shown without their text" not in run["err"]
    of = {one.name: one for one in files()}
    rulesets = [
        step(kernel, name)
        for name in corpus_names(tier())
        if name in of and has(kernel, features(of[name]))
    ]
    keys = ("packets", "records", "rules", "texts", "unknown")
    sums = {key: sum(one[key] for one in rulesets) for key in keys}
    wrong = sum(len(one["mismatches"]) + len(one["texts that differ"]) for one in rulesets)
    with capsys.disabled():
        print(
            f"\n{kernel}: {len(rulesets)} rulesets, {sums['packets']:,} packets, "
            f"{sums['records']:,} records, {sums['texts']:,} texts of {sums['rules']} rules, "
            f"{sums['unknown']} unknown; mismatches {wrong}"
        )
    assert sums["rules"] >= 7 * len(rulesets)


@pytest.mark.full
@pytest.mark.parametrize("kernel", KERNELS)
def test_first_packet_has_text_of_rule(kernel: str) -> None:
    result = step(kernel, "large")
    assert result["status"] == 0
    events = [json.loads(line) for line in result["out"].splitlines()]
    first = next(event["nft"] for event in events if event["type"] == "nft_rule")
    assert first["text"] == f"udp dport {LARGE} counter drop"


def test_each_ruleset_names_its_style() -> None:
    assert len(files()) >= 40
    assert all(file.read_text().startswith("# Style: ") for file in files())
    assert {*QUICK} <= {file.name for file in files()}
