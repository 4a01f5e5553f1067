"""How far filters read, and their result for a packet that ends earlier."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pypwru.asm.cbpf import ClassicInstruction, validate
from pypwru.bpf_sources import sources
from pypwru.errors import FilterError
from pypwru.filter.codegen import NEEDS_FRAGMENTS
from pypwru.filter.compiler import compile_filter
from pypwru.filter.criteria import compile_inner_filters
from pypwru.filter.packet_loads import MAX_REACH
from pypwru.filter.pcap import Linktype, compile_pcap
from pypwru.filter.program import FilterProgram
from pypwru.program.maps import MAPS
from tests.oracles.filter_machine import Machine
from tests.oracles.filter_packets import ethernet_packets, ip_packets
from tests.oracles.filter_strategies import EXPRESSIONS, programs
from tests.oracles.filters import Libpcap, Packet

STACK_BASE = -72
FRAMES = {Linktype.ETHERNET: ethernet_packets(), Linktype.RAW_IP: ip_packets()}
PAYLOAD = "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420"


@pytest.mark.parametrize(
    "expression",
    [
        "tcp port 443",
        "host 10.0.0.1 and not (udp port 53 or icmp)",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "tcp[14:2] = 0 and port 80",
        "icmp[icmptype] = icmp-echo and icmp[6:2] = 1",
        "ip6 and tcp port 443",
        "ip6 and udp[4:2] > 8 or ip6[6] = 58 and icmp6[icmp6type] = 128",
        "ip6 and ip6[6] = 6 and ip6[53] & 2 != 0",
        "arp[24:4] = 0x0a000001",
        "vlan 10 and tcp port 443",
        "ip[6:2] & 0x1fff != 0 or greater 1000",
        "ether host 02:00:00:00:00:01 or ip6 multicast",
        "net 10.0.0.0/8 and sctp portrange 100-200",
    ],
)
def test_headers_need_no_fragments(expression: str) -> None:
    found = compile_filter(expression)
    assert not found.l2.needs_fragments
    assert not found.l3.needs_fragments


@pytest.mark.parametrize(
    ("expression", "end"),
    [
        (PAYLOAD, 14 + 60 + 60 + 4),
        ("udp port 53 and udp[10] & 0x80 = 0", 14 + 60 + 11),
        ("tcp[20:4] = 0x01020304", 14 + 60 + 24),
        ("icmp[8:4] = 7", 14 + 60 + 12),
        ("ip[48:4] = 0x47455420", 14 + 52),
        ("ip6 and udp and ip6[48:2] = 7", 14 + 50),
        ("ip6 and tcp and ip6[60:2] = 7", 14 + 62),
        ("ether[1000:2] = 7", 1002),
        ("ip[ip[2:2] - 4:4] = 7", MAX_REACH),
        ("geneve and tcp port 443", MAX_REACH),
    ],
)
def test_payload_needs_fragments(expression: str, end: int) -> None:
    found = compile_filter(expression).l2
    assert found.needs_fragments
    assert found.plan.reach.end == end


def test_inner_filters_need_fragments() -> None:
    inner = compile_inner_filters("vlan", "tcp port 443")
    assert inner.l2 is not None and inner.l2.needs_fragments
    assert inner.l3 is not None and inner.l3.needs_fragments
    assert not FilterProgram(compile_pcap("", Linktype.RAW_IP), is_inner=True).needs_fragments


@settings(max_examples=200)
@given(EXPRESSIONS, st.sampled_from(Linktype), st.integers(0, 1 << 32))
def test_short_packet_same_result_or_none(expression: str, linktype: Linktype, seed: int) -> None:
    try:
        program = compile_pcap(expression, linktype)
    except FilterError:
        assume(False)
        raise
    view = FilterProgram(program, is_inner=True)
    oracle = Libpcap(program.instructions)
    chance = random.Random(seed)
    for packet in chance.sample(FRAMES[linktype], 20):
        size = chance.randrange(len(packet.data) + 1)
        _check_linear_part(view, oracle.matches(packet), packet, size)


@settings(max_examples=200)
@given(programs(), st.binary(max_size=300), st.integers(0, 300))
def test_random_programs(code: list[ClassicInstruction], data: bytes, size: int) -> None:
    packet = Packet(data, len(data) + 5)
    _check_linear_part(
        FilterProgram(validate(code), is_inner=True), Libpcap(code).matches(packet), packet, size
    )


def _check_linear_part(view: FilterProgram, whole: bool, packet: Packet, size: int) -> None:
    """``whole``: libpcap's result for the whole packet; ``size``: bytes in the linear part."""
    body = view.body(STACK_BASE)
    result = Machine(packet.data[:size], packet.length).run(body)
    if result != NEEDS_FRAGMENTS:
        assert bool(result) == whole, (str(view.program), packet, size)
    copied = packet.data[: view.plan.reach.end]
    assert Machine(copied, packet.length).matches(body) == whole, (str(view.program), packet)


def test_copy_holds_maximal_reach() -> None:
    text = sources()["match/fragments.h"]
    room = {name: int(size) for name, size in re.findall(r"#define (\w+) +(\d+)", text)}
    assert room["LINEAR_COPY_SIZE"] == MAX_REACH
    assert MAPS["linear_copies"].entries == room["COPIES_PER_CPU"]
