"""packet_ids and frees on real kernels; samples are whole paths, and limits hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.lab import kernels, results
from tests.lab.jobs.sampling import FEW, PINGS
from tests.lab.kernels import REFERENCE
from tests.lab.results import with_marks
from tests.lab.test_capture import MAX_VERIFIED

pytestmark = pytest.mark.lab
SUITE = "sampling"
KERNELS = kernels.names(SUITE)
# Packets that a device or the stack frees later, after the trace: skb_attempt_defer_free(),
# sockets.
MAX_PENDING = 16
# A path of so few packets may be missing in a sample, or in another run.
RARE = 0.01


def step(kernel: str, name: str) -> Any:
    name = name if name == "frames" else f"{name} {kernels.kernel(kernel).kprobes}"
    return results.step(kernel, SUITE, name)


def assert_complete(done: dict[str, int]) -> None:
    """Assert that every event is printed, or counted by the reason why not."""
    skipped = sum(done.get(word, 0) for word in ("not_sampled", "over_rate", "throttled"))
    assert done["produced"] == done["events"] + skipped + done["lost_ring_full"] + done["not_shown"]
    assert done["lost_ring_full"] == done["not_shown"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_skb_has_events_and_one_free(kernel: str) -> None:
    result = step(kernel, "lifetimes")
    shapes = Counter(result["lifetimes"])
    print(kernel, result["lifetimes"], result["odd"])
    assert shapes["sE"] > 500
    assert shapes.keys() <= {"sE", "s", "E"}, "a free comes once, and nothing behind it"
    assert shapes["s"] + shapes["E"] <= MAX_PENDING
    assert result["done"]["lost_free_events"] == result["done"]["lost_packet_ids"] == 0
    assert_complete(result["done"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_clones_share_packet_id_reused_address_has_new(kernel: str) -> None:
    result = step(kernel, "lifetimes")
    assert result["clones"] > 10
    assert result["again"] > 100


@pytest.mark.full
@pytest.mark.parametrize("kernel", KERNELS)
def test_sample_rate_keeps_whole_paths(kernel: str) -> None:
    """Of 10,000, one in ten: 1,000, give or take 100."""
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
        assert_complete(done)
    assert sampled["done"]["lost_packet_ids"] == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", with_marks(SUITE, ["plain", "stacks"]))
def test_replies_are_sampled_with_requests(kernel: str, name: str) -> None:
    """Also where packets are tracked, and functions that handle them are traced."""
    result = step(kernel, name)
    shown = sum(result["paths"].values())
    assert abs(shown - 2 * FEW / 10) <= 2
    if name == "stacks":
        assert any("ip_route_output_key_hash_rcu" in path for path in result["paths"])
    assert_complete(result["done"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_sample_flow_has_both_directions(kernel: str) -> None:
    result = step(kernel, "flows")
    assert set(result["directions"]) == {2}
    assert 5 < len(result["directions"]) < 45
    assert_complete(result["done"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_limits_hold_and_are_counted(kernel: str) -> None:
    result = step(kernel, "limits")
    assert 0 < result["second"] <= 200 and 0 < result["hits"] <= 20
    assert sum(result["throttled"].values()) == result["done"]["throttled"] > 0
    assert "ip_rcv" in result["throttled"]
    assert_complete(result["done"])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", with_marks(SUITE, ["lifetimes", "sampled", "plain"]))
def test_verifier_walks_few_instructions(kernel: str, name: str) -> None:
    loads = step(kernel, name)["loads"]
    verified = {handler: instructions for handler, _, instructions in loads}
    print(f"{kernel}: {verified}")
    assert 0 < max(verified.values()) < MAX_VERIFIED


@pytest.mark.full
@pytest.mark.parametrize("kernel", [REFERENCE])
def test_xdp_frame_has_packet_id_of_its_skb(kernel: str) -> None:
    result = step(kernel, "frames")
    assert result["packets"] == 5
    assert all("icmp_rcv" in path or "icmp_echo" in path for path in result["paths"])
