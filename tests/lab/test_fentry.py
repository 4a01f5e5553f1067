"""fentry on real kernels: it sees what kprobes see, and is chosen where it starts and ends soon."""

from __future__ import annotations

import re
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from tests.lab.jobs.fentry import commands
from tests.lab.jobs.main_job import FAR, NEAR
from tests.lab.main_job import logged
from tests.lab.vm import boots
from tests.lab.vm.boots import Boot, Result

pytestmark = pytest.mark.lab

# Kernel -> the backends that it has; the last is the judge.
BACKENDS = {
    "5.10": ("fentry", "kprobe"),
    "6.1": ("fentry", "kprobe"),
    "6.12": ("fentry", "kprobe-multi"),
    "7.2": ("fentry-multi", "fentry", "kprobe-multi"),
}
FEW = {"5.10": "fentry", "6.1": "fentry", "6.12": "kprobe-multi", "7.2": "fentry-multi"}
MANY = {"5.10": "kprobe", "6.1": "kprobe", "6.12": "kprobe-multi", "7.2": "fentry-multi"}
BY_FENTRY = [(kernel, one) for kernel, all_ in BACKENDS.items() for one in all_[:-1]]
UNTRACEABLE = "tcf_fill_node"  # it has 14 arguments


def begun(kernel: str) -> Future[Result]:
    return boots.begun(_run, kernel)


def _run(kernel: str) -> Result:
    words = list(commands(BACKENDS[kernel], []).values())
    return boots.job(kernel, "tests.lab.jobs.fentry", *BACKENDS[kernel], commands=words)


BOOTS = [Boot(2, partial(begun, kernel)) for kernel in BACKENDS]


def step(kernel: str, name: str) -> Any:
    return boots.step(boots.result(begun(kernel)), kernel, name)


def sights(text: str) -> list[str]:
    """FUNC and CALLER of the one ping's lines, in their order."""
    tuples = (f"{NEAR}:0->{FAR}:0(icmp)", f"{FAR}:0->{NEAR}:0(icmp)")
    found = (re.search(r"(\S+:0->\S+:0\(icmp\)) +(\S.*)$", line) for line in text.splitlines())
    return [" ".join(one[2].split()) for one in found if one and one[1] in tuples]


@pytest.mark.parametrize(("kernel", "backend"), BY_FENTRY)
def test_fentry_sees_what_kprobes_see(kernel: str, backend: str) -> None:
    judge = step(kernel, BACKENDS[kernel][-1])
    seen = step(kernel, backend)

    assert len(sights(judge["out"])) > 10
    modules = any(line.startswith("veth_xmit[veth] ") for line in sights(seen["out"]))
    assert modules == (kernel != "5.10")  # whose modules have no types
    assert sights(seen["out"]) == sights(judge["out"])
    counts = [
        (logged(one["err"], "Done")["attached"], logged(one["err"], "Done")["ignored"])
        for one in (seen, judge)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("kernel", "backend"), BY_FENTRY)
def test_what_fentry_is_not_to_be_had_on_is_probed(kernel: str, backend: str) -> None:
    err = step(kernel, backend)["err"]

    assert re.search(rf"DEBUG No fentry function={UNTRACEABLE} why=\S", err)
    assert f"Ignored function={UNTRACEABLE}" not in err


@pytest.mark.parametrize("kernel", BACKENDS)
def test_probes_beside_fentry_follow_packets(kernel: str) -> None:
    seen = step(kernel, "following")

    assert seen["status"] == 0
    assert "fib_table_lookup" in sights(seen["out"])
    assert set(sights(step(kernel, "many")["out"])) <= set(sights(seen["out"]))


@pytest.mark.parametrize("kernel", BACKENDS)
def test_the_automatic_backend(kernel: str) -> None:
    assert logged(step(kernel, "few")["err"], "Chose backend")["backend"] == FEW[kernel]
    assert logged(step(kernel, "many")["err"], "Chose backend")["backend"] == MANY[kernel]
