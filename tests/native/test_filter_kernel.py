"""Filters in the kernel beyond plain packets: tags beside the frame, loops, random programs."""

from __future__ import annotations

import os
import random
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypwru.asm.cbpf import ClassicInstruction, validate
from pypwru.filter.compiler import compile_filter
from pypwru.filter.pcap import Linktype, compile_pcap
from pypwru.filter.program import FilterProgram
from pypwru.filter.prologue import MAX_BACK_EDGES
from tests.oracles.filter_packets import ethernet_packets
from tests.oracles.filter_strategies import programs
from tests.oracles.filters import Kernel, Libpcap, Packet, expressions, kernel_verdicts
from tests.oracles.pcap_grammar import write
from tests.support.need import need

pytestmark = pytest.mark.native

TAGS = ((0x8100, 10), (0x88A8, 100), (0x9100, 0), (0x8100, 0xE064))
ETHERNET_HEADER = 14


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root, for BPF_PROG_TEST_RUN")


def _with_tag(packet: Packet, tpid: int, tci: int) -> tuple[Packet, Packet]:
    """Return the packet as the kernel keeps it, and as it was on the wire."""
    tag = tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")
    kept = packet._replace(tag=1 << 32 | tpid << 16 | tci)
    return kept, packet._replace(data=packet.data[:12] + tag + packet.data[12:])


def test_tag_beside_frame_matches_as_in_frame(capsys: pytest.CaptureFixture[str]) -> None:
    whole = [p for p in ethernet_packets() if len(p.data) >= ETHERNET_HEADER][::3]
    pairs = [_with_tag(packet, *tag) for packet, tag in zip(whole, cycle(TAGS), strict=False)]
    views = {e: compile_filter(e).l2 for e in expressions()}
    aware = 0
    faults = []
    verdicts = kernel_verdicts(list(views.values()), [kept for kept, _ in pairs])
    for (expression, view), kernel in zip(views.items(), verdicts, strict=True):
        oracle = Libpcap(view.program.instructions)
        aware += view.uses_tag
        for (kept, wire), found in zip(pairs, kernel, strict=True):
            if found != oracle.matches(wire if view.uses_tag else kept):
                faults.append(f"'{expression}' {kept.data.hex()} tag {kept.tag:#x}: {found}")
    with capsys.disabled():
        count = len(views) * len(pairs)
        print(f"\n{count:,} verdicts on tagged frames compared, {len(faults)} mismatches")
    assert not faults, "\n".join(faults[:20])
    assert aware > 30


@pytest.mark.parametrize("headers", [1, MAX_BACK_EDGES - 2, MAX_BACK_EDGES + 1, 150])
def test_header_chain_is_followed_to_budget(headers: int) -> None:
    chain = bytes((60, 0, 1, 4, 0, 0, 0, 0)) * (headers - 1) + bytes((6, 0, 1, 4, 0, 0, 0, 0))
    ipv6 = bytes((0x60, 0, 0, 0, 0, 0, 60, 64)) + bytes(32)
    frame = bytes(12) + b"\x86\xdd" + ipv6 + chain + bytes(20)
    packet = Packet(frame, len(frame))
    view = compile_filter("ip6 protochain 6").l2
    assert Libpcap(view.program.instructions).matches(packet)
    with Kernel([view]) as kernel:
        assert kernel.run(packet) == (headers < MAX_BACK_EDGES)


@settings(max_examples=100)
@given(programs(), st.lists(st.binary(max_size=300), min_size=1, max_size=8))
def test_random_programs_match_as_libpcap(
    code: list[ClassicInstruction], packets: list[bytes]
) -> None:
    oracle = Libpcap(code)
    view = FilterProgram(validate(code))
    with Kernel([view]) as kernel:
        for data in packets:
            packet = Packet(data, len(data) + 5)
            assert kernel.run(packet) == oracle.matches(packet), (str(view.program), data.hex())


@pytest.mark.parametrize(
    "expression",
    [
        " or ".join(f"port {port}" for port in range(1, 200)),
        " or ".join(f"host 10.{n}.0.1 or net 2001:db8:{n}::/48" for n in range(150)),
        "vlan and " * 10 + "ip6 protochain 58",
        "ip6 protochain 17 and udp port 53",
        "ip6 protochain 58 and icmp6",
        "ip6 protochain 17 and ip6 protochain 6 and tcp[13] & 2 != 0 or udp[8:2] = 5",
        "vlan and protochain 6 and (host 10.0.0.1 or host 2001:db8::1) and port 443",
    ],
)
def test_verifier_accepts_long_filters(expression: str) -> None:
    packets = ethernet_packets()[::20]
    program = compile_pcap(expression, Linktype.ETHERNET)
    oracle = Libpcap(program.instructions)
    with Kernel([FilterProgram(program, has_tag=True)]) as kernel:
        assert [bool(kernel.run(p)) for p in packets] == [oracle.matches(p) for p in packets]


def test_verifier_accepts_conditions_after_loop() -> None:
    packets = ethernet_packets()[::20]
    chance = random.Random(15)
    for _ in range(40):
        loop = chance.choice(("ip6 protochain", "ip protochain", "protochain"))
        joined = chance.choice(("and", "or", "and not"))
        text = f"{loop} {chance.choice((6, 17, 58, 1))} {joined} ({write(chance, 3)})"
        program = compile_pcap(text, Linktype.ETHERNET)
        oracle = Libpcap(program.instructions)
        with Kernel([FilterProgram(program, has_tag=True)]) as kernel:
            found = [bool(kernel.run(packet)) for packet in packets]
        assert found == [oracle.matches(packet) for packet in packets], text
