"""Bytes of packets on real kernels: those that a packet socket has, and each packet once."""

from __future__ import annotations

from typing import Any

import pytest

from pypwru.discovery.skb_lifetime import DATA_ALREADY_FREED
from tests.lab import kernels, results
from tests.lab.kernels import REFERENCE
from tests.lab.suites import capture_backends

pytestmark = pytest.mark.lab

SUITE = "capture"
EACH = [
    (name, one) for name in kernels.names(SUITE) for one in capture_backends(kernels.kernel(name))
]
MOST_WALKED = 100_000  # instructions, of a million that the verifier goes through
DROPPED = 50  # datagrams, by the guest's script


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_bytes_are_those_of_a_packet_socket(kernel: str, backend: str) -> None:
    seen = step(kernel, f"every {backend}")
    lengths = [int(one.split()[0]) for one in seen["theirs"]]
    assert max(lengths) > 60_000, "no packet was large"
    assert seen["ours"] == seen["theirs"]
    print(f"{kernel} {backend}: {sum(seen['ours'].values())} packets")


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_what_was_put_together_is_whole(kernel: str, backend: str) -> None:
    """The 9000 octets of a ping that came in fragments, with all that is in front of them."""
    delivered = step(kernel, f"every {backend}")["delivered"]
    assert [9042, 9042, 2] in delivered
    assert all(length == told for length, told, _ in delivered)


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_a_tag_is_beside_the_packet(kernel: str, backend: str) -> None:
    seen = step(kernel, f"every {backend}")
    assert seen["our tagged"] == seen["their tagged"]
    assert seen["our tagged"][0][0] == 0x8100 << 16 | 5


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_every_packet_that_was_wanted_was_told(kernel: str, backend: str) -> None:
    for name in ("every", "first"):
        done = step(kernel, f"{name} {backend}")["done"]
        assert done["lost_packets"] == done["capture_truncated"] == done["lost_ring_full"] == 0
    seen = step(kernel, f"every {backend}")
    assert 0 < sum(seen["told"].values()) == seen["done"]["capture_requested"]


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_nothing_is_told_of_a_packet_whose_bytes_are_freed(kernel: str, backend: str) -> None:
    seen = step(kernel, f"every {backend}")
    assert seen["freed"]
    assert DATA_ALREADY_FREED.isdisjoint(seen["told"])


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_each_packet_is_first_once(kernel: str, backend: str) -> None:
    """One that is cut into segments only behind that is one: what they carry is compared."""
    seen = step(kernel, f"first {backend}")
    assert 0 < sum(seen["first"].values()) <= seen["theirs"]
    assert seen["our payload"] == seen["their payload"]
    dropped = sum(seen["later"].values())
    assert DROPPED <= dropped < DROPPED + 10
    assert all(name.startswith(("kfree_skb", "sk_skb_reason_drop")) for name in seen["later"])


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_the_verifier_has_an_easy_walk(kernel: str, backend: str) -> None:
    loads = step(kernel, f"first {backend}")["loads"]
    walked = [instructions for _, _, instructions in loads]
    print(f"{kernel} {backend}: {loads}")
    assert 0 < max(walked) < MOST_WALKED


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_frames_of_xdp_programs(kernel: str) -> None:
    """A frame is what was sent, and the packet that it is of was told already."""
    seen = step(kernel, "frames")
    assert len(seen["theirs every"]) == 1
    assert [one for one, _ in seen["ours every"]] == seen["theirs every"]
    assert [layer for _, layer in seen["ours every"]] == [2]
    assert seen["ours first"] == []
    assert len(seen["told first"]) == 2, "the request, and its answer"
