"""Bytes of packets on real kernels: those that a packet socket has, and each packet once."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from tests.lab.jobs.capture import commands
from tests.lab.vm import boots
from tests.lab.vm.boots import Boot, Result

pytestmark = pytest.mark.lab

BACKENDS = {
    "5.10": ("kprobe",),
    "6.1": ("kprobe",),
    "6.12": ("kprobe-multi",),
    "7.2": ("kprobe-multi", "fentry-multi"),
}
EACH = [(kernel, one) for kernel, all_ in BACKENDS.items() for one in all_]
FRAMES = "6.12"  # the kernel whose XDP programs are looked at
MOST_WALKED = 100_000  # instructions, of a million that the verifier goes through
DROPPED = 50  # datagrams, by the guest's script


def begun(kernel: str) -> Future[Result]:
    return boots.begun(_run, kernel)


def _run(kernel: str) -> Result:
    common = ["--output-pcap=-", "--output-nft=false"]
    more = ["frames"] if kernel == FRAMES else []
    asked = commands(BACKENDS[kernel], with_frames=bool(more))
    of_frames = asked.pop("frames", None)
    last = [[*of_frames, "--pcap-when", one] for one in ("every", "first")] if of_frames else []
    words = [[*common, *one] for one in (*asked.values(), *last)]
    return boots.job(kernel, "tests.lab.jobs.capture", *BACKENDS[kernel], *more, commands=words)


BOOTS = [Boot(2, partial(begun, kernel)) for kernel in BACKENDS]


def step(kernel: str, name: str) -> Any:
    return boots.step(boots.result(begun(kernel)), kernel, name)


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
        assert done["lost_packets"] == done["packets_cut"] == done["lost_ring_full"] == 0
    seen = step(kernel, f"every {backend}")
    assert 0 < seen["told"] <= seen["done"]["packets_wanted"]


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


def test_frames_of_xdp_programs() -> None:
    """A frame is what was sent, and the packet that it is of was told already."""
    seen = step(FRAMES, "frames")
    assert len(seen["theirs every"]) == 1
    assert [one for one, _ in seen["ours every"]] == seen["theirs every"]
    assert [layer for _, layer in seen["ours every"]] == [2]
    assert seen["ours first"] == []
    assert len(seen["told first"]) == 2, "the request, and its answer"
