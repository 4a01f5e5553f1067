"""fentry on real kernels: it has the events of kprobes, and is selected where it attaches
quickly.
"""

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


def traced_calls(text: str) -> list[str]:
    """Return FUNC and CALLER of the one ping's lines, in their order."""
    tuples = (f"{NEAR}:0->{FAR}:0(icmp)", f"{FAR}:0->{NEAR}:0(icmp)")
    found = (re.search(r"(\S+:0->\S+:0\(icmp\)) +(\S.*)$", line) for line in text.splitlines())
    return [" ".join(one[2].split()) for one in found if one and one[1] in tuples]


@pytest.mark.parametrize(("kernel", "backend"), BY_FENTRY)
def test_fentry_has_events_of_kprobes(kernel: str, backend: str) -> None:
    kprobes = step(kernel, BACKENDS[kernel][-1])
    result = step(kernel, backend)

    assert len(traced_calls(kprobes["out"])) > 10
    modules = any(line.startswith("veth_xmit[veth] ") for line in traced_calls(result["out"]))
    assert modules == kernels.kernel(kernel).has(Feature.MODULE_BTF)
    assert traced_calls(result["out"]) == traced_calls(kprobes["out"])
    counts = [
        (logged(one["err"], "Done")["attached"], logged(one["err"], "Done")["ignored"])
        for one in (result, kprobes)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("kernel", "backend"), BY_FENTRY)
def test_function_without_fentry_gets_kprobe(kernel: str, backend: str) -> None:
    err = step(kernel, backend)["err"]

    assert re.search(rf"DEBUG No fentry function={UNTRACEABLE} why=\S", err)
    assert f"Ignored function={UNTRACEABLE}" not in err


@pytest.mark.parametrize(("kernel", "backend"), BY_FENTRY)
def test_fentry_traces_with_packet_ids(kernel: str, backend: str) -> None:
    plain, as_json = step(kernel, backend)["err"], step(kernel, f"json {backend}")["err"]
    by_kprobes = [
        set(re.findall(r"DEBUG No fentry function=(\S+)", one)) for one in (plain, as_json)
    ]

    assert by_kprobes[0] == by_kprobes[1]
    assert "Tracing all functions by kprobes instead" not in as_json


@pytest.mark.step("following", "many")
@pytest.mark.parametrize("kernel", KERNELS)
def test_kprobes_beside_fentry_track_packets(kernel: str) -> None:
    result = step(kernel, "following")

    assert result["status"] == 0
    assert "fib_table_lookup" in traced_calls(result["out"])
    assert set(traced_calls(step(kernel, "many")["out"])) <= set(traced_calls(result["out"]))


@pytest.mark.step("few", "many")
@pytest.mark.parametrize("kernel", KERNELS)
def test_automatic_backend_by_count(kernel: str) -> None:
    row = kernels.kernel(kernel)
    assert logged(step(kernel, "few")["err"], "Chose backend")["backend"] == row.automatic_for_few
    assert logged(step(kernel, "many")["err"], "Chose backend")["backend"] == row.automatic


@pytest.mark.parametrize(
    "kernel",
    [name for name in KERNELS if "kprobe" in BACKENDS[name]
     and kernels.kernel(name).has(Feature.MODULE_BTF)],
)  # fmt: skip
def test_reloaded_module_is_traced_again(kernel: str) -> None:
    result = step(kernel, "reloaded")

    assert result["status"] == 0
    assert result["out"].count("dummy_xmit[dummy]") == 2
    assert "INFO Attached to a module again module=dummy functions=1" in result["err"]
