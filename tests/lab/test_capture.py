"""Packet data on real kernels: equal to a packet socket's, and each packet once."""

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
MAX_VERIFIED = 100_000  # instructions, of a million that the verifier goes through
DROPPED = 50  # datagrams, by the guest's script


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_data_equals_that_of_packet_socket(kernel: str, backend: str) -> None:
    result = step(kernel, f"every {backend}")
    lengths = [int(one.split()[0]) for one in result["theirs"]]
    assert max(lengths) > 60_000, "no packet was large"
    assert result["ours"] == result["theirs"]
    print(f"{kernel} {backend}: {sum(result['ours'].values())} packets")


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_reassembled_packet_is_whole(kernel: str, backend: str) -> None:
    """A ping of 9000 bytes in fragments, with all headers."""
    delivered = step(kernel, f"every {backend}")["delivered"]
    assert [9042, 9042, 2] in delivered
    assert all(length == captured for length, captured, _ in delivered)


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_vlan_tag_is_beside_packet(kernel: str, backend: str) -> None:
    result = step(kernel, f"every {backend}")
    assert result["our tagged"] == result["their tagged"]
    assert result["our tagged"][0][0] == 0x8100 << 16 | 5


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_each_requested_packet_is_captured(kernel: str, backend: str) -> None:
    for name in ("every", "first"):
        done = step(kernel, f"{name} {backend}")["done"]
        assert done["lost_packets"] == done["capture_truncated"] == done["lost_ring_full"] == 0
    result = step(kernel, f"every {backend}")
    assert 0 < sum(result["captured"].values()) == result["done"]["capture_requested"]


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_freed_data_is_not_captured(kernel: str, backend: str) -> None:
    result = step(kernel, f"every {backend}")
    assert result["freed"]
    assert DATA_ALREADY_FREED.isdisjoint(result["captured"])


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_each_packet_has_one_first_event(kernel: str, backend: str) -> None:
    """A packet that is segmented only later is one: the payloads are compared."""
    result = step(kernel, f"first {backend}")
    assert 0 < sum(result["first"].values()) <= result["theirs"]
    assert result["our payload"] == result["their payload"]
    dropped = sum(result["later"].values())
    assert DROPPED <= dropped < DROPPED + 10
    assert all(name.startswith(("kfree_skb", "sk_skb_reason_drop")) for name in result["later"])


@pytest.mark.parametrize(("kernel", "backend"), EACH)
def test_verifier_walks_few_instructions(kernel: str, backend: str) -> None:
    loads = step(kernel, f"first {backend}")["loads"]
    verified = [instructions for _, _, instructions in loads]
    print(f"{kernel} {backend}: {loads}")
    assert 0 < max(verified) < MAX_VERIFIED


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_frames_of_xdp_programs_are_captured_once(kernel: str) -> None:
    """A frame is the frame that was sent, and its packet isn't captured again."""
    result = step(kernel, "frames")
    assert len(result["theirs every"]) == 1
    assert [one for one, _ in result["ours every"]] == result["theirs every"]
    assert [layer for _, layer in result["ours every"]] == [2]
    assert result["ours first"] == []
    assert len(result["captured first"]) == 2, "the request and the reply"
