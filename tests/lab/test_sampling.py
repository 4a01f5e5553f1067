"""Packets on real kernels: each has a number and an end; shares are whole, and limits hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.lab import kernels, results
from tests.lab.jobs.sampling import FEW, PINGS
from tests.lab.kernels import REFERENCE
from tests.lab.results import with_marks
from tests.lab.test_capture import MOST_WALKED

pytestmark = pytest.mark.lab
SUITE = "sampling"
KERNELS = kernels.names(SUITE)
# What a card or the stack keeps for later when the trace ends: skb_attempt_defer_free(), sockets.
KEPT = 16
# A path that so few of all packets take may not be among those of a share, or of another run.
RARE = 0.01


def step(kernel: str, name: str) -> Any:
    name = name if name == "frames" else f"{name} {kernels.kernel(kernel).kprobes}"
    return results.step(kernel, SUITE, name)


def assert_is_all(done: dict[str, int]) -> None:
    """Every sight is shown, or counted by why it is not."""
    held = sum(done.get(word, 0) for word in ("not_sampled", "over_rate", "throttled"))
    assert done["produced"] == done["events"] + held + done["lost_ring_full"] + done["not_shown"]
    assert done["lost_ring_full"] == done["not_shown"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_sk_buff_has_sights_and_then_one_end(kernel: str) -> None:
    seen = step(kernel, "lives")
    shapes = Counter(seen["lives"])
    print(kernel, seen["lives"], seen["odd"])
    assert shapes["sE"] > 500
    assert shapes.keys() <= {"sE", "s", "E"}, "an end comes once, and nothing behind it"
    assert shapes["s"] + shapes["E"] <= KEPT
    assert seen["done"]["lost_free_events"] == seen["done"]["lost_packet_ids"] == 0
    assert_is_all(seen["done"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_clones_share_a_number_and_an_address_that_is_given_again_has_another(kernel: str) -> None:
    seen = step(kernel, "lives")
    assert seen["clones"] > 10
    assert seen["again"] > 100


@pytest.mark.full
@pytest.mark.parametrize("kernel", KERNELS)
def test_one_ping_in_ten_with_the_same_functions_as_without_sampling(kernel: str) -> None:
    """10,000 of them: 1,000, give or take 100."""
    every, sampled = step(kernel, "every"), step(kernel, "sampled")
    all_, some = Counter(every["paths"]), Counter(sampled["paths"])
    shown = sum(some.values())
    print(kernel, shown, len(all_), len(some), sampled["done"])
    assert sum(all_.values()) == FEW
    assert abs(shown - PINGS / 10) <= 2 < 100, "of each ten on a CPU one"
    for paths, others in ((all_, some), (some, all_)):
        frequent = [path for path, count in paths.items() if count > RARE * sum(paths.values())]
        assert frequent and set(frequent) <= set(others)
    strange = sum(count for path, count in some.items() if path not in all_)
    assert strange <= RARE * shown
    for done in (every["done"], sampled["done"]):
        assert_is_all(done)
    assert sampled["done"]["lost_packet_ids"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", with_marks(SUITE, ["plain", "stacks"]))
def test_questions_and_answers_are_sampled_alike(kernel: str, name: str) -> None:
    """Also where packets are tracked, and what handles them is traced."""
    seen = step(kernel, name)
    shown = sum(seen["paths"].values())
    assert abs(shown - 2 * FEW / 10) <= 2
    if name == "stacks":
        assert any("ip_route_output_key_hash_rcu" in path for path in seen["paths"])
    assert_is_all(seen["done"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_both_directions_of_a_connection_are_in_or_out(kernel: str) -> None:
    seen = step(kernel, "flows")
    assert set(seen["directions"]) == {2}
    assert 5 < len(seen["directions"]) < 45
    assert_is_all(seen["done"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_limits_hold_and_are_told(kernel: str) -> None:
    seen = step(kernel, "limits")
    assert 0 < seen["second"] <= 200 and 0 < seen["hits"] <= 20
    assert sum(seen["throttled"].values()) == seen["done"]["throttled"] > 0
    assert "ip_rcv" in seen["throttled"]
    assert_is_all(seen["done"])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", with_marks(SUITE, ["lives", "sampled", "plain"]))
def test_the_verifier_has_an_easy_walk(kernel: str, name: str) -> None:
    loads = step(kernel, name)["loads"]
    walked = {handler: instructions for handler, _, instructions in loads}
    print(f"{kernel}: {walked}")
    assert 0 < max(walked.values()) < MOST_WALKED


@pytest.mark.full
@pytest.mark.parametrize("kernel", [REFERENCE])
def test_a_frame_of_an_xdp_program_is_the_packet_that_it_becomes(kernel: str) -> None:
    seen = step(kernel, "frames")
    assert seen["packets"] == 5
    assert all("icmp_rcv" in path or "icmp_echo" in path for path in seen["paths"])
