"""The main job on real kernels: no kernel headers, every backend, exact loss, all removed."""

from __future__ import annotations

import re

import pytest

from tests.lab import kernels
from tests.lab.jobs.main_job import FAR, NEAR
from tests.lab.kernels import REFERENCE
from tests.lab.main_job import logged, own_lines, step

pytestmark = pytest.mark.lab
SUITE = "main_job"
KERNELS = kernels.names(SUITE)
COMPILER = re.compile(r"/(libLLVM|libbcc|libclang)")


def functions(text: str) -> list[str]:
    """Return the functions of the one ping, in their order."""
    tuples = (f"{NEAR}:0->{FAR}:0(icmp)", f"{FAR}:0->{NEAR}:0(icmp)")
    return [line.function for line in own_lines(text) if line.tuple in tuples]


@pytest.mark.step("cold")
@pytest.mark.parametrize("kernel", KERNELS)
def test_cold_start_needs_no_kernel_headers(kernel: str) -> None:
    cold = step(kernel, "cold")

    assert cold["trees"] == []
    assert not cold["cache_before"]
    assert cold["compiled"] > 0, "nothing was compiled: nothing is tested"
    assert not any(map(COMPILER.search, cold["maps"]))
    assert any("/libc." in library for library in cold["maps"]), "the maps were not read"
    assert cold["status"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_automatic_backend_is_best_of_kernel(kernel: str) -> None:
    err = step(kernel, "beside")["pypwru"]["err"]

    assert logged(err, "Chose backend")["backend"] == kernels.kernel(kernel).automatic
    done = logged(err, "Done")
    assert int(done["attached"]) > 50
    assert done["lost_ring_full"] == done["not_shown"] == done["lost_recursion"] == "0"
    assert int(done["produced"]) == int(done["events"])


@pytest.mark.step("tracepoint")
@pytest.mark.parametrize("kernel", KERNELS)
def test_tracepoints_have_events_of_ping(kernel: str) -> None:
    seen = step(kernel, "tracepoint")

    assert seen["status"] == 0
    assert re.search(rf"{NEAR}:0->{FAR}:0\(icmp\) +tp:netif_receive_skb$", seen["out"], re.M)
    assert int(logged(seen["err"], "Done")["attached"]) > 5


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_warm_start_maps_no_compiler(kernel: str) -> None:
    warm = step(kernel, "warm")

    assert warm["status"] == 0
    assert not list(filter(COMPILER.search, warm["maps"]))
    assert any("/libc." in library for library in warm["maps"]), "the maps were not read"


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_printed_and_lost_are_all_events(kernel: str) -> None:
    flood = step(kernel, "flood")
    done = {key: int(value) for key, value in logged(flood["err"], "Done").items()}

    assert done["lost_ring_full"] > 0
    assert flood["out"] + done["lost_ring_full"] == done["produced"]
    assert flood["out"] == done["events"]
    assert done["not_shown"] == 0


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_reused_address_is_not_tracked(kernel: str) -> None:
    seen = step(kernel, "reborn")
    lines = own_lines(seen["out"])

    assert sum(line.function == "icmp_rcv" for line in lines) > 20
    assert {line.tuple for line in lines if "(udp)" in line.tuple} == set()
    assert int(logged(seen["err"], "Done")["lost_tracking"]) == 0


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_kprobe_has_events_of_kprobe_multi(kernel: str) -> None:
    multi, single = step(kernel, "kprobe_multi"), step(kernel, "kprobe")

    assert len(functions(multi["out"])) > 15
    assert functions(single["out"]) == functions(multi["out"])
    attached = [int(logged(seen["err"], "Done")["attached"]) for seen in (multi, single)]
    ignored = [int(logged(seen["err"], "Done")["ignored"]) for seen in (multi, single)]
    assert sum(attached) and attached[0] + ignored[0] == attached[1] + ignored[1]


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_session_removes_its_kprobes(kernel: str) -> None:
    assert step(kernel, "kprobe_events")["text"] == ""


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_next_session_removes_kprobes_of_killed_one(kernel: str) -> None:
    killed = step(kernel, "killed")
    group = f"pypwru_{killed['pid']}_"

    assert group in killed["left"]
    assert re.search(r"trace_skb_1_0_[0-9_]+ +[1-9]", killed["hits"]), (
        "it never ran: nothing is tested"
    )
    assert killed["hits_after"] == killed["hits"]
    assert group not in killed["during"]
    assert "pypwru_" in killed["during"]
    assert killed["after"] == ""
