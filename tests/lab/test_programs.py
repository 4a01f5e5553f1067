"""TC and XDP programs on real kernels: traced, also such as come later; what refuses is named."""

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
    """The lines of one program."""
    return [line for line in text.splitlines() if f"_{program}[bpf]" in line]


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_to_trace_is_an_error(kernel: str) -> None:
    seen = step(kernel, "nothing")

    assert (seen["status"], seen["out"]) == (1, "")
    assert "No kprobe/tc-bpf/xdp to trace!" in seen["err"].splitlines()[-1]
    for kind in ("SchedCLS", "XDP"):
        assert f"INFO No bpf progs found with type type={kind}" in seen["err"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_packet_is_seen_by_both_programs(kernel: str) -> None:
    seen = step(kernel, "programs")
    request = f"{NEAR}:0->{FAR}:0(icmp)"
    sights = [line.split()[-1] for line in seen["out"].splitlines() if request in line]
    ends = [re.sub(r"^bpf_prog_[0-9a-f]{16}_", "", name) for name in sights]

    assert seen["status"] == 0
    assert ends[:3] == [
        f"{FRAMES}[bpf](xdp)",
        f"{CLASSIFIER}[bpf](tc)",
        "ip_local_deliver",
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_programs_are_named_as_the_kernel_names_them(kernel: str) -> None:
    seen = step(kernel, "programs")
    for program in (CLASSIFIER, FRAMES):
        shown = re.search(rf"(bpf_prog_[0-9a-f]{{16}}_{program}\[bpf\])", seen["out"])
        assert shown and shown[1] in seen["symbols"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_program_that_is_loaded_meanwhile(kernel: str) -> None:
    seen = step(kernel, "programs")
    for program, suffix in LATE.items():
        assert named(seen["out"], program)
        assert all(line.endswith(suffix) for line in named(seen["out"], program))


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_refuses_is_named_and_skipped(kernel: str) -> None:
    seen = step(kernel, "programs")
    bare, replaced = seen["refused"]["bare"], seen["refused"]["replaced"]
    skipped = "Skip tracing bpf prog because cannot find its entry function name"

    assert f"INFO {skipped} prog={bare}\n" in seen["err"]
    (warning,) = [line for line in seen["err"].splitlines() if " WARN " in line]
    assert f'WARN Skip tracing bpf prog prog={replaced} why="Device or resource busy"' in warning
    assert logged(seen["err"], "Attached")["ignored"] == "1"


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_xdp_line_has_the_frames_address(kernel: str) -> None:
    lines = named(step(kernel, "address")["out"], FRAMES)

    assert lines
    for line in lines:
        assert f" data_hard_start={line.split()[0]}" in line


@pytest.mark.step("tracked")
@pytest.mark.parametrize("kernel", KERNELS)
def test_tracking_hangs_on_the_exit_of_xdp_programs_alone(kernel: str) -> None:
    seen = step(kernel, "tracked")
    tracing = [one["name"] for one in seen["programs"] if one["type"] == "tracing"]
    ours = [name for name in tracing if name.startswith(("trace_tc", "trace_xdp"))]

    assert sorted(ours) == sorted(["trace_tc"] * 2 + ["trace_xdp", "trace_xdp_exit"] * 2)


@pytest.mark.step("tail_call")
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_program_that_is_tail_called_is_not_seen(kernel: str) -> None:
    """As docs/filters.md has it; a kernel where it has an event would be good news."""
    seen = step(kernel, "tail_call")

    assert seen["results"] == [2, 2], "the callee did not run"
    assert len(named(seen["out"], "caller_program")) == 3
    assert len(named(seen["out"], "callee_program")) == 5


@pytest.mark.step("helpers")
@pytest.mark.parametrize("kernel", KERNELS)
def test_what_programs_call_is_what_bpftool_says(kernel: str) -> None:
    seen = step(kernel, "helpers")
    theirs = {name for text in seen["listings"] for name in re.findall(r" call ([a-z]\w+)#", text)}

    assert "bpf_ktime_get_ns" in theirs
    assert theirs == set(seen["ours"])
