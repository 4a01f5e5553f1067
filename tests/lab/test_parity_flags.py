"""Every flag of pwru, beside pwru: the same lines and exit status, or a listed difference.

parity/invocations.py has the command lines, parity/compare.py compares outputs, and
parity/differences.py has the differences of docs/differences-from-pwru.md.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from importlib.resources import files

import pytest
from _pytest.mark import ParameterSet
from jsonschema import Draft202012Validator

from pypwru.cli.flags import FLAGS
from tests.lab import kernels
from tests.lab.kernels import REFERENCE, Tier, tier
from tests.lab.parity.differences import DIFFERENCES, explanation
from tests.lab.parity.invocations import INVOCATIONS
from tests.lab.parity.printed import events
from tests.lab.parity.results import declared, findings, measured, row_result
from tests.lab.parity.rows import configured, names
from tests.lab.parity.tracking import SCENARIOS, shown
from tests.support.need import need
from tests.support.paths import TREE

pytestmark = pytest.mark.lab
SUITE = "parity"
KERNELS = kernels.names(SUITE)
FULL = pytest.mark.full
PAGE = TREE / "docs" / "differences-from-pwru.md"


def compared_rows(kernel: str, in_tier: Tier) -> list[str]:
    return [name for name in names(kernel, in_tier) if name in INVOCATIONS]


def cases() -> list[ParameterSet]:
    """Return kernels and rows, with a mark where the quick tier omits them."""
    return [
        pytest.param(
            kernel, name, marks=[] if name in compared_rows(kernel, Tier.QUICK) else [FULL]
        )
        for kernel in KERNELS
        for name in compared_rows(kernel, Tier.FULL)
    ]


CASES = cases()


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_output_equals_pwru_but_for_differences(kernel: str, name: str) -> None:
    unexplained = [
        found for found in findings(kernel, name) if not explanation(found, declared(kernel))
    ]
    assert not unexplained, f"{len(unexplained)} findings\n" + "\n".join(
        f"{one.what} ({one.reference}) {one.function}\n  {one.theirs!r}\n  {one.own!r}"
        for one in unexplained[:10]
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_print_of_comparison(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Print how much was compared, and how often it differs on purpose."""
    counted: Counter[str] = Counter()
    differing, rows = 0, compared_rows(kernel, tier())
    for name in rows:
        found = [
            explanation(one, declared(kernel)) or "unexplained" for one in findings(kernel, name)
        ]
        counted.update(found)
        differing += bool(found)
    with capsys.disabled():
        beside = sum("pwru" in row_result(kernel, name) for name in rows)
        print(f"\n{kernel}: {len(rows)} invocations, {beside} beside ", end="")
        print(f"{measured(kernel)['pwru']}, the others against what 1.0.12 printed")
        print(f"  {differing} of them differ, in {len(counted)} ways of {len(DIFFERENCES)} listed")
        for name, count in counted.most_common():
            print(f"  {count} x {name}")
    assert len(compared_rows(REFERENCE, Tier.FULL)) >= 40


def test_every_flag_of_pwru_is_invoked() -> None:
    invoked = {flag for row in INVOCATIONS.values() for flag in row.flags}
    # The guest adds it to every invocation with traffic, and waits for the file.
    invoked |= {"ready-file"}
    assert {flag.name for flag in FLAGS if not flag.extension} <= invoked


def test_differences_are_documented() -> None:
    table = PAGE.read_text().partition("\n## ")[0]
    documented = {line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()}
    assert {one.row for one in DIFFERENCES.values()} <= documented


@pytest.mark.full
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("kernel", [REFERENCE])
def test_line_needs_tracking(kernel: str, name: str) -> None:
    scenario = SCENARIOS[name]
    assert not shown(scenario, row_result(kernel, f"without_{name}")["pypwru"]["out"])
    assert shown(scenario, row_result(kernel, scenario.invocation)["pypwru"]["out"])


def has_objects(kernel: str, name: str) -> bool:
    """Return whether pypwru runs once more with --output-json beside it, or with it: on one
    kernel.
    """
    row = INVOCATIONS[name]
    return "output-json" in row.flags or (kernel == REFERENCE and row.also_json)


JSON = [case for case in CASES if has_objects(*map(str, case.values))]


def objects(kernel: str, name: str) -> str:
    ran = row_result(kernel, name)
    return str(ran.get("json", ran["pypwru"])["out"])


@pytest.mark.parametrize(("kernel", "name"), JSON)
def test_json_is_valid_by_schema(kernel: str, name: str) -> None:
    schema = json.loads((files("pypwru.data") / "event.schema.json").read_text())
    validator = Draft202012Validator(schema)
    for line in objects(kernel, name).splitlines():
        validator.validate(json.loads(line))


@pytest.mark.parametrize(("kernel", "name"), JSON)
def test_jq_reads_as_many_events_as_text(kernel: str, name: str) -> None:
    need(shutil.which("jq"), "jq")
    text = objects(kernel, name)
    done = subprocess.run(
        ["jq", "-c", "[.skb, .func]"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == text.count("\n")
    # Functions that BPF programs call are also called by programs of the other tracer.
    if (
        "json" in row_result(kernel, name)
        and "filter-track-bpf-helpers" not in INVOCATIONS[name].flags
    ):
        (config,) = filter(None, [configured(name)])
        printed = events(row_result(kernel, name)["pypwru"]["out"], config)[1]
        pairs = Counter((event.skb, event.fields["func"]) for event in printed)
        assert Counter(tuple(json.loads(line)) for line in done.stdout.splitlines()) == pairs
