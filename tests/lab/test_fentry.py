"""fentry on real kernels: it sees what kprobes see, and is chosen where it starts and ends soon."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.lab import kernels, results
from tests.lab.jobs.main_job import FAR, NEAR
from tests.lab.kernels import Feature
from tests.lab.main_job import logged
from tests.lab.suites import fentry_backends

pytestmark = pytest.mark.lab
SUITE = "fentry"
KERNELS = kernels.names(SUITE)

# The last is the one that the others are compared with.
BACKENDS = {name: fentry_backends(kernels.kernel(name)) for name in KERNELS}
BY_FENTRY = [(kernel, one) for kernel, all_ in BACKENDS.items() for one in all_[:-1]]
UNTRACEABLE = "tcf_fill_node"  # it has 14 arguments


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


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
    assert modules == kernels.kernel(kernel).has(Feature.MODULE_BTF)
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


@pytest.mark.step("following", "many")
@pytest.mark.parametrize("kernel", KERNELS)
def test_probes_beside_fentry_follow_packets(kernel: str) -> None:
    seen = step(kernel, "following")

    assert seen["status"] == 0
    assert "fib_table_lookup" in sights(seen["out"])
    assert set(sights(step(kernel, "many")["out"])) <= set(sights(seen["out"]))


@pytest.mark.step("few", "many")
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_automatic_backend(kernel: str) -> None:
    row = kernels.kernel(kernel)
    assert logged(step(kernel, "few")["err"], "Chose backend")["backend"] == row.automatic_for_few
    assert logged(step(kernel, "many")["err"], "Chose backend")["backend"] == row.automatic


@pytest.mark.parametrize(
    "kernel",
    [name for name in KERNELS if "kprobe" in BACKENDS[name]
     and kernels.kernel(name).has(Feature.MODULE_BTF)],
)  # fmt: skip
def test_a_module_that_is_loaded_again_is_traced_again(kernel: str) -> None:
    seen = step(kernel, "reloaded")

    assert seen["status"] == 0
    assert seen["out"].count("dummy_xmit[dummy]") == 2
    assert "INFO Attached to a module again module=dummy functions=1" in seen["err"]
