"""Every flag of pwru, beside pwru: the same lines and the same exit status, or a listed difference.

What runs is parity_invocations.py, how outputs are compared parity.py, and what may differ
parity_differences.py, which is README's table.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from functools import partial
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from pypwru.options import FLAGS
from tests.lab.parity.boots import (
    KERNELS,
    WHOLE,
    begun,
    configured,
    declared,
    findings,
    measured,
    names,
    seen,
)
from tests.lab.parity.differences import DIFFERENCES, explanation
from tests.lab.parity.invocations import INVOCATIONS
from tests.lab.parity.printed import events
from tests.lab.parity.tracking import SCENARIOS, shown
from tests.lab.vm.boots import Boot
from tests.support.need import need
from tests.support.paths import TREE

pytestmark = pytest.mark.lab
README = TREE / "README.md"
_TABLE = "## What differs from pwru on purpose"

BOOTS = [Boot(12 if kernel == WHOLE else 4, partial(begun, kernel)) for kernel in KERNELS]


def compared(kernel: str) -> list[str]:
    return [name for name in names(kernel) if name in INVOCATIONS]


CASES = [(kernel, name) for kernel in KERNELS for name in compared(kernel)]


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_it_is_as_pwru_or_differs_on_purpose(kernel: str, name: str) -> None:
    unexplained = [
        found for found in findings(kernel, name) if not explanation(found, declared(kernel))
    ]
    assert not unexplained, f"{len(unexplained)} findings\n" + "\n".join(
        f"{one.what} ({one.reference}) {one.function}\n  {one.theirs!r}\n  {one.own!r}"
        for one in unexplained[:10]
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_account(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed: how much was compared, and how often it differs on purpose."""
    counted: Counter[str] = Counter()
    differing = 0
    for name in compared(kernel):
        found = [
            explanation(one, declared(kernel)) or "unexplained" for one in findings(kernel, name)
        ]
        counted.update(found)
        differing += bool(found)
    with capsys.disabled():
        beside = sum("pwru" in seen(kernel, name) for name in compared(kernel))
        print(f"\n{kernel}: {len(compared(kernel))} invocations, {beside} beside ", end="")
        print(f"{measured(kernel)['pwru']}, the others against what 1.0.12 printed")
        print(f"  {differing} of them differ, in {len(counted)} ways of {len(DIFFERENCES)} listed")
        for name, count in counted.most_common():
            print(f"  {count} x {name}")
    assert len(compared(WHOLE)) >= 40


def test_every_flag_is_invoked() -> None:
    invoked = {flag for row in INVOCATIONS.values() for flag in row.flags}
    # The guest adds it to every invocation with traffic, and waits for the file.
    invoked |= {"ready-file"}
    assert {flag.name for flag in FLAGS if not flag.own} <= invoked


def test_differences_are_those_of_the_readme() -> None:
    table = README.read_text().partition(_TABLE)[2].partition("\n## ")[0]
    told = {line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()}
    assert {one.readme for one in DIFFERENCES.values()} <= told


@pytest.mark.parametrize("name", SCENARIOS)
def test_only_tracking_shows_it(name: str) -> None:
    scenario = SCENARIOS[name]
    assert not shown(scenario, seen(WHOLE, f"without_{name}")["pypwru"]["out"])
    assert shown(scenario, seen(WHOLE, scenario.invocation)["pypwru"]["out"])


# On one kernel pypwru runs once more with --output-json beside each that prints events.
JSON = [
    (kernel, name)
    for kernel, name in CASES
    if "output-json" in INVOCATIONS[name].flags or (kernel == WHOLE and INVOCATIONS[name].also_json)
]


def objects(kernel: str, name: str) -> str:
    ran = seen(kernel, name)
    return str(ran.get("json", ran["pypwru"])["out"])


@pytest.mark.parametrize(("kernel", "name"), JSON)
def test_json_has_the_form_of_the_schema(kernel: str, name: str) -> None:
    schema = json.loads((files("pypwru.data") / "event.schema.json").read_text())
    validator = Draft202012Validator(schema)
    for line in objects(kernel, name).splitlines():
        validator.validate(json.loads(line))


@pytest.mark.parametrize(("kernel", "name"), JSON)
def test_json_is_read_by_jq_and_is_as_much_as_text(kernel: str, name: str) -> None:
    need(shutil.which("jq"), "jq")
    text = objects(kernel, name)
    done = subprocess.run(
        ["jq", "-c", "[.skb, .func]"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == text.count("\n")
    # What BPF programs call is also what the programs of the tracer beside call.
    if "json" in seen(kernel, name) and "filter-track-bpf-helpers" not in INVOCATIONS[name].flags:
        (config,) = filter(None, [configured(name)])
        printed = events(seen(kernel, name)["pypwru"]["out"], config)[1]
        pairs = Counter((event.skb, event.fields["func"]) for event in printed)
        assert Counter(tuple(json.loads(line)) for line in done.stdout.splitlines()) == pairs
