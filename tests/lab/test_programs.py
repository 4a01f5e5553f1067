"""TC and XDP programs on real kernels: traced, also if loaded later; untraceable ones are named."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.lab import results
from tests.lab.jobs.main_job import FAR, NEAR
from tests.lab.kernels import names
from tests.lab.main_job import logged

pytestmark = pytest.mark.lab
SUITE = "programs"
KERNELS = names(SUITE)

CLASSIFIER, FRAMES = "classifier_with_a_long_name", "frames_with_a_long_name"
LATE = {"classifier_that_is_late": "(tc)", "frames_that_are_late": "(xdp)"}


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


def named(text: str, program: str) -> list[str]:
    """Return the lines of one program."""
    return [line for line in text.splitlines() if f"_{program}[bpf]" in line]


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_to_trace_is_error(kernel: str) -> None:
    result = step(kernel, "nothing")

    assert (result["status"], result["out"]) == (1, "")
    assert "No kprobe/tc-bpf/xdp to trace!" in result["err"].splitlines()[-1]
    for kind in ("SchedCLS", "XDP"):
        assert f"INFO No bpf progs found with type type={kind}" in result["err"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_packet_has_events_of_both_programs(kernel: str) -> None:
    result = step(kernel, "programs")
    request = f"{NEAR}:0->{FAR}:0(icmp)"
    printed = [line.split()[-1] for line in result["out"].splitlines() if request in line]
    ends = [re.sub(r"^bpf_prog_[0-9a-f]{16}_", "", name) for name in printed]

    assert result["status"] == 0
    assert ends[:3] == [
        f"{FRAMES}[bpf](xdp)",
        f"{CLASSIFIER}[bpf](tc)",
        "ip_local_deliver",
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_program_names_are_in_kallsyms(kernel: str) -> None:
    result = step(kernel, "programs")
    for program in (CLASSIFIER, FRAMES):
        shown = re.search(rf"(bpf_prog_[0-9a-f]{{16}}_{program}\[bpf\])", result["out"])
        assert shown and shown[1] in result["symbols"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_program_loaded_later_is_traced(kernel: str) -> None:
    result = step(kernel, "programs")
    for program, suffix in LATE.items():
        assert named(result["out"], program)
        assert all(line.endswith(suffix) for line in named(result["out"], program))


@pytest.mark.parametrize("kernel", KERNELS)
def test_untraceable_programs_are_logged(kernel: str) -> None:
    result = step(kernel, "programs")
    bare, replaced = result["refused"]["bare"], result["refused"]["replaced"]
    skipped = "Skip tracing bpf prog because cannot find its entry function name"

    assert f"INFO {skipped} prog={bare}\n" in result["err"]
    (warning,) = [line for line in result["err"].splitlines() if " WARN " in line]
    assert f'WARN Skip tracing bpf prog prog={replaced} why="Device or resource busy"' in warning
    assert logged(result["err"], "Attached")["ignored"] == "1"


@pytest.mark.parametrize("kernel", KERNELS)
def test_xdp_line_has_address_of_frame(kernel: str) -> None:
    lines = named(step(kernel, "address")["out"], FRAMES)

    assert lines
    for line in lines:
        assert f" data_hard_start={line.split()[0]}" in line


@pytest.mark.step("tracked")
@pytest.mark.parametrize("kernel", KERNELS)
def test_tracking_probes_exit_of_xdp_programs(kernel: str) -> None:
    result = step(kernel, "tracked")
    tracing = [one["name"] for one in result["programs"] if one["type"] == "tracing"]
    ours = [name for name in tracing if name.startswith(("trace_tc", "trace_xdp"))]

    assert sorted(ours) == sorted(["trace_tc"] * 2 + ["trace_xdp", "trace_xdp_exit"] * 2)


@pytest.mark.step("tail_call")
@pytest.mark.parametrize("kernel", KERNELS)
def test_tail_called_program_has_no_event(kernel: str) -> None:
    """As docs/filters.md has it; a kernel where it has an event would be good news."""
    result = step(kernel, "tail_call")

    assert result["results"] == [2, 2], "the callee did not run"
    assert len(named(result["out"], "caller_program")) == 3
    assert len(named(result["out"], "callee_program")) == 5


@pytest.mark.step("helpers")
@pytest.mark.parametrize("kernel", KERNELS)
def test_helpers_are_those_of_bpftool(kernel: str) -> None:
    result = step(kernel, "helpers")
    theirs = {
        name for text in result["listings"] for name in re.findall(r" call ([a-z]\w+)#", text)
    }

    assert "bpf_ktime_get_ns" in theirs
    assert theirs == set(result["ours"])
