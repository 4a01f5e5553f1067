"""Translated filters, run by the test's own eBPF machine, against libpcap's interpreter."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pypwru.asm.cbpf import ClassicInstruction, ClassicProgram, validate
from pypwru.asm.ebpf import Insn
from pypwru.errors import FilterError
from pypwru.filter.passes import make_plan
from pypwru.filter.pcap import Linktype, compile_pcap
from pypwru.filter.program import FilterProgram
from pypwru.filter.prologue import MAX_BACK_EDGES
from tests.oracles.filter_machine import Machine, Refused
from tests.oracles.filter_packets import ethernet_packets, ip_packets
from tests.oracles.filter_strategies import EXPRESSIONS, programs
from tests.oracles.filters import Libpcap, Packet

STACK_BASE = -72
TPIDS = (0x8100, 0x88A8, 0x9100)
MANY_EXAMPLES = settings(max_examples=600)
SEEDS = st.integers(0, 1 << 32)
FRAMES = {Linktype.ETHERNET: ethernet_packets(), Linktype.RAW_IP: ip_packets()}
UNTRUNCATED = [packet for packet in FRAMES[Linktype.ETHERNET] if len(packet.data) >= 14]
"""Frames with a whole Ethernet header, which every frame has that the kernel untags."""


def is_match(body: list[Insn], packet: Packet) -> bool:
    return Machine(packet.data, packet.length, packet.tag).matches(body)


@MANY_EXAMPLES
@given(programs(), st.binary(max_size=300), st.integers(0, 400))
def test_random_programs(code: list[ClassicInstruction], data: bytes, more: int) -> None:
    packet = Packet(data, len(data) + more)
    oracle = Libpcap(code)
    assert oracle.is_valid()
    view = FilterProgram(validate(code))
    assert is_match(view.body(STACK_BASE), packet) == oracle.matches(packet), str(view.program)


@MANY_EXAMPLES
@given(EXPRESSIONS, st.sampled_from(Linktype), SEEDS)
def test_random_expressions(expression: str, linktype: Linktype, seed: int) -> None:
    view = _compile(expression, linktype)
    # A contradiction is refused, or searched behind a tag.
    assume(not make_plan(view.program, has_tag=False).is_contradiction)
    oracle = Libpcap(view.program.instructions)
    body = view.body(STACK_BASE)
    for packet in random.Random(seed).sample(FRAMES[linktype], 30):
        assert is_match(body, packet) == oracle.matches(packet), (expression, packet)


@MANY_EXAMPLES
@given(EXPRESSIONS, st.sampled_from(TPIDS), st.sampled_from((0, 10, 100, 0xFFFF)), SEEDS)
def test_accelerated_tag_is_matched(expression: str, tpid: int, tci: int, seed: int) -> None:
    """A tag in metadata gives the result of libpcap for the frame with the tag in it."""
    view = _compile(expression, Linktype.ETHERNET)
    assume(not make_plan(view.program, has_tag=False).is_contradiction)
    oracle = Libpcap(view.program.instructions)
    body = view.body(STACK_BASE)
    # After geneve and PPPoE, vlan matches a tag of the inner packet.
    if "geneve" not in expression and "pppoes" not in expression:
        assert view.uses_tag == bool(re.search(r"\bvlan\b|0x8100", expression))
    for packet in random.Random(seed).sample(UNTRUNCATED, 20):
        untagged, wire = _add_tag(packet, tpid, tci)
        found = is_match(body, untagged)
        assert found == oracle.matches(wire if view.uses_tag else packet), (expression, packet)


def _compile(expression: str, linktype: Linktype) -> FilterProgram:
    try:
        program = compile_pcap(expression, linktype)
    except FilterError:
        assume(False)
        raise
    return FilterProgram(program, has_tag=linktype is Linktype.ETHERNET)


@pytest.mark.parametrize(
    ("expression", "aware"),
    [
        ("icmp", False),
        ("vlan", True),
        ("not vlan", True),
        ("icmp or vlan 10", True),
        ("ether proto 0x88a8", True),
        ("ether[12:4] & 0xffff0fff = 0x81000064", True),
        ("tcp port 33024", False),
        ("ip6 and tcp port 33024", False),
        ("ip[4:2] = 0x8100", False),
        ("ether[12:2] = 0x0800", False),
        ("geneve and vlan", False),
        ("icmp and not vlan", True),
        ("udp port 53 and not (vlan 10 or vlan 20)", True),
        ("icmp or vlan or not vlan", True),
        ("0x8100 = ether[12:2]", True),
        ("ether[10:4] & 0xffff = 0x88a8", True),
        ("ether[12:2] - 0x100 = 0x8000", True),
        ("icmp and ether[12:2] & 0 = 0x8100", False),
    ],
)
def test_filters_that_use_the_tag(expression: str, aware: bool) -> None:
    assert _compile(expression, Linktype.ETHERNET).uses_tag is aware


def _add_tag(packet: Packet, tpid: int, tci: int) -> tuple[Packet, Packet]:
    """Return the packet with the tag in metadata, and with the tag in its data."""
    inserted = tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")
    wire = packet._replace(data=packet.data[:12] + inserted + packet.data[12:])
    return packet._replace(tag=1 << 32 | tpid << 16 | tci), wire


@pytest.mark.parametrize(
    ("expression", "meaning"),
    [
        ("icmp and not vlan", "icmp and not vlan"),
        ("not vlan and icmp", "not vlan and icmp"),
        ("tcp and not vlan 10", "tcp and not vlan 10"),
        ("(icmp or tcp) and not vlan", "(icmp or tcp) and not vlan"),
        ("vlan or not vlan", "vlan or not vlan"),
        ("icmp and vlan 10", "vlan 10 and icmp"),
        ("icmp and vlan", "vlan and icmp"),
        (
            "tcp port 443 and host 10.0.0.1 and vlan 10",
            "vlan 10 and tcp port 443 and host 10.0.0.1",
        ),
        ("not arp and vlan 10 and ip6", "not arp and vlan 10 and ip6"),
        ("ip6 and vlan and icmp6", "vlan and ip6 and icmp6"),
    ],
)
def test_vlan_in_any_position(expression: str, meaning: str) -> None:
    """libpcap runs on the tagged frame, with vlan in a position in which it finds the tag."""
    view = _compile(expression, Linktype.ETHERNET)
    oracle = Libpcap(compile_pcap(meaning, Linktype.ETHERNET).instructions)
    body = view.body(STACK_BASE)
    matched = 0
    for number, packet in enumerate(UNTRUNCATED):
        tag = (TPIDS[number % 3], (10, 100)[number % 2])
        untagged, wire = _add_tag(packet, *tag)
        for variant in (untagged, packet, wire):
            expected = oracle.matches(wire if variant is untagged else variant)
            assert is_match(body, variant) == expected, (expression, variant)
            matched += expected
    assert matched or " not " in f" {expression}"


@pytest.mark.parametrize(
    "trips", [1, 2, MAX_BACK_EDGES - 1, MAX_BACK_EDGES, MAX_BACK_EDGES + 1, 200]
)
def test_backward_jumps_have_a_budget(trips: int) -> None:
    """A loop of ``trips`` rounds, as of protochain: over the budget nothing matches."""
    loop = ClassicProgram(
        (
            ClassicInstruction(0x60, 0, 0, 0),  # ld M[0]
            ClassicInstruction(0x04, 0, 0, 1),  # add #1
            ClassicInstruction(0x02, 0, 0, 0),  # st M[0]
            ClassicInstruction(0x25, 1, 0, trips),  # jgt #trips
            ClassicInstruction(0x05, 0, 0, 0xFFFFFFFB),  # ja 0
            ClassicInstruction(0x06, 0, 0, 1),
        )
    )
    assert Libpcap(loop.instructions).matches(Packet(b"", 0))
    assert is_match(FilterProgram(loop).body(STACK_BASE), Packet(b"", 0)) is (
        trips < MAX_BACK_EDGES
    )


@pytest.mark.parametrize("code", [0x64, 0x74])
def test_shift_over_31_is_zero(code: int) -> None:
    shift = (ClassicInstruction(0x80, 0, 0, 0), ClassicInstruction(code, 0, 0, 32))
    view = FilterProgram(ClassicProgram((*shift, ClassicInstruction(0x16, 0, 0, 0))))
    assert not is_match(view.body(STACK_BASE), Packet(b"", 0xFFFFFFFF))


def test_unreadable_packet_does_not_match() -> None:
    view = _compile("not ip", Linktype.ETHERNET)
    machine = Machine(b"\0" * 60)
    machine.arguments = (0xFFFF888000000000, 60, 60, 0)
    assert not machine.run(view.body(STACK_BASE))


@pytest.mark.parametrize(
    ("expression", "without_options", "with_options"),
    [
        ("len > 10", 0, 0),
        ("icmp", 1, 1),
        ("host 10.0.0.1", 1, 1),
        ("tcp port 443", 1, 2),
        ("tcp port 443 and tcp[tcpflags] & tcp-syn != 0", 1, 2),
        ("tcp port 443 or vlan", 1, 2),
        ("ether[200] = 0", 1, 1),
    ],
)
def test_number_of_packet_reads(expression: str, without_options: int, with_options: int) -> None:
    """Two reads are needed only if an IPv4 header with options precedes computed offsets."""
    body = _compile(expression, Linktype.ETHERNET).body(STACK_BASE)
    calls: dict[bool, set[int]] = {False: set(), True: set()}
    for packet in FRAMES[Linktype.ETHERNET]:
        machine = Machine(packet.data, packet.length)
        machine.run(body)
        has_options = packet.data[12:14] != b"\x08\x00" or packet.data[14:15] != b"\x45"
        calls[has_options].add(machine.calls)
    assert max(calls[False]) == without_options
    assert max(calls[True]) == with_options


def test_full_stack_is_an_error() -> None:
    view = _compile("tcp port 443", Linktype.ETHERNET)
    packet = FRAMES[Linktype.ETHERNET][0]
    assert view.body(-400)
    Machine(packet.data).run(view.body(-400))
    with pytest.raises(FilterError, match="'tcp port 443' needs 80 bytes of stack and 72 are left"):
        view.body(-440)


def test_machine_refuses_like_the_verifier() -> None:
    """The oracle itself: a body without two of its instructions does not pass."""
    body = _compile("tcp port 443", Linktype.ETHERNET).body(STACK_BASE)
    with pytest.raises(Refused, match="invalid read from stack"):
        Machine(bytes.fromhex("00" * 60)).run([*body[:8], *body[10:]])


def test_loads_move_up_only_if_always_reached() -> None:
    """SCTP with IP options, which ends before a TCP header there would: it is not TCP."""
    text = "ip host 224.0.0.5 or (! tcp[13] & 18 != 17 or not src and dst host 127.0.0.1)"
    header = bytes.fromhex("47b8002854ae4000208432710a0000c8c0a80107")
    data = bytes(12) + b"\x08\x00" + header + bytes(20)
    packet, view = Packet(data, len(data)), _compile(text, Linktype.ETHERNET)
    assert Libpcap(view.program.instructions).matches(packet)
    assert is_match(view.body(STACK_BASE), packet)
