"""Our passes instead of libpcap's optimizer: correct where that is wrong, and as short."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pypwru.asm.cbpf import ClassicInstruction, InstructionKind, validate
from pypwru.errors import FilterError
from pypwru.filter.passes import make_plan
from pypwru.filter.pcap import Linktype, compile_pcap
from pypwru.filter.program import FilterProgram
from tests.oracles import classic_programs
from tests.oracles.filter_machine import Machine
from tests.oracles.filter_packets import ethernet_packets
from tests.oracles.filters import Libpcap, expressions, optimized_by_libpcap
from tests.oracles.pcap_grammar import write

FRAMES = ethernet_packets()
CHECKS = (InstructionKind.CHECK_ABSOLUTE, InstructionKind.CHECK_INDIRECT)

MISCOMPILED = (
    # libpcap's issues 945, 434, 437, 1699, 112 (a hang), pull request 1742, and truncated packets
    "host 10.0.0.1 and not ((host 1.2.3.4 or host 5.6.7.8) and icmp) "
    "and not (host 5.6.7.8 or host 10.0.0.1)",
    "len >= 2147483648 & 2147483648 or len < 0 | 2147483648",
    "len <= 4294967295 & 2147483647 and len > 2147483647 + 0",
    "(1 = 0) || (2147483648 / 4294967295 = 0) and (0 & 4294967295 = 0)",
    "1/2=1/3&&1>4/5&&1>6/7",
    "1/2=1/3&&1>4/5&&1>6/7 and ip[8] / 300 = ip[9] / 400",
    "(ip[12:4] = 0x0a000001 or ip[16:4] = 0x0a000001) and "
    "(not ((ip[12:4] = 0x0a000002 or ip[16:4] = 0x0a000002)))",
    "ip[1] & 0xffffffff != 0",
    "ether[0xffffffff] = 1 or ip",
    "ip[2] & 0 = 0 and ip[300] & 0 = 0",
)


@pytest.mark.parametrize("expression", MISCOMPILED)
def test_filters_that_libpcap_miscompiles(expression: str) -> None:
    view = FilterProgram(compile_pcap(expression, Linktype.ETHERNET))
    oracle = Libpcap(view.program.instructions)
    body = view.body(0)
    for packet in FRAMES:
        found = Machine(packet.data, packet.length).matches(body)
        assert found == oracle.matches(packet), packet.data.hex()


@pytest.mark.parametrize("linktype", Linktype)
def test_filters_are_as_short_as_of_libpcap(linktype: Linktype) -> None:
    """But for checks of bounds, and branches that only lead to them: libpcap omits them."""
    sizes = {}
    for expression in expressions():
        try:
            plan = make_plan(compile_pcap(expression, linktype), has_tag=False)
            theirs = len(optimized_by_libpcap(expression, linktype))
        except (FilterError, ValueError):
            continue
        code = list(plan.cfg.instructions())
        exits = {s for block in plan.cfg.blocks.values() for s in block.successors if s < 0}
        checks = sum(i.kind in CHECKS for i in code)
        sizes[expression] = (len(code) + len(exits), theirs + 2 * checks)
    assert len(sizes) > 200
    assert not {e: found for e, found in sizes.items() if found[0] > found[1]}


@pytest.mark.parametrize("linktype", Linktype)
def test_contradictions_are_found(linktype: Linktype) -> None:
    chance = random.Random(12)
    seen = 0
    for _ in range(400):
        text = write(chance, chance.randrange(2, 5))
        try:
            program = compile_pcap(text, linktype)
        except FilterError:
            continue
        try:
            optimized_by_libpcap(text, linktype)
        except ValueError:
            seen += 1
            assert make_plan(program, has_tag=False).is_contradiction, text
    assert seen > 5


@pytest.mark.parametrize("make", [classic_programs.program, classic_programs.loop])
@pytest.mark.parametrize("seed", range(4))
def test_implied_tests_are_removed(
    make: Callable[[random.Random], list[ClassicInstruction]], seed: int
) -> None:
    chance = random.Random(seed)
    before = after = 0
    for _ in range(150):
        code = make(chance)
        oracle = Libpcap(code)
        assert oracle.is_valid()
        view = FilterProgram(validate(code))
        body = view.body(0)
        before += len(code)
        after += len(list(view.plan.cfg.instructions()))
        for _ in range(10):
            packet = classic_programs.packet(chance)
            found = Machine(packet.data, packet.length).matches(body)
            assert found == oracle.matches(packet), (str(view.program), packet)
    assert after < before * 2 / 3
