"""Every verdict of every filter, by three oracles that share only libpcap's code generator.

pypwru's passes and the kernel run what libpcap's interpreter and tcpdump run unoptimized. That the
code means what was written is checked without libpcap (oracles/pcap_grammar.py).
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from pypwru.errors import FilterError
from pypwru.filter.compiler import compile_filter
from pypwru.filter.pcap import Linktype, compile_pcap
from pypwru.filter.program import FilterProgram
from tests.oracles.filter_packets import ethernet_packets, ip_packets, whole_frames
from tests.oracles.filters import (
    Libpcap,
    Packet,
    expressions,
    kernel_verdicts,
    tcpdump_matches,
    write_pcap,
)
from tests.oracles.pcap_grammar import Frame, matches, read, write
from tests.support.need import is_full_tier, need

pytestmark = pytest.mark.native

EXPRESSIONS = expressions()
ENOUGH = 250_000


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root, for BPF_PROG_TEST_RUN")
    need(shutil.which("tcpdump"), "tcpdump")


@pytest.fixture(scope="module")
def ethernet() -> list[Packet]:
    return ethernet_packets()


def _views(linktype: Linktype) -> dict[str, FilterProgram]:
    """The expressions that libpcap compiles for ``linktype``."""
    views = {}
    for expression in EXPRESSIONS:
        try:
            program = compile_pcap(expression, linktype)
        except FilterError:
            continue
        views[expression] = FilterProgram(program, has_tag=linktype is Linktype.ETHERNET)
    return views


def _compare(
    views: dict[str, FilterProgram], packets: list[Packet], linktype: Linktype, folder: Path
) -> tuple[int, list[str]]:
    """Return the number of compared verdicts, and the disagreements."""
    capture = folder / f"{linktype.name}.pcap"
    write_pcap(capture, packets, linktype)
    faults = []
    verdicts = kernel_verdicts(list(views.values()), packets)
    for (expression, view), kernel in zip(views.items(), verdicts, strict=True):
        # tcpdump can't begin with empty scratch memory (see Libpcap).
        assert not any(name.startswith("M") for name in view.plan.liveness.live_at_entry), (
            expression
        )
        interpreter = Libpcap(view.program.instructions)
        reader = tcpdump_matches(capture, expression)
        for number, packet in enumerate(packets):
            verdicts_of_packet = (kernel[number], interpreter.matches(packet), number in reader)
            if len(set(verdicts_of_packet)) > 1:
                faults.append(
                    f"{linktype.name} '{expression}' packet {number} (kernel, libpcap, "
                    f"tcpdump): {verdicts_of_packet}: {packet.data.hex()} of {packet.length}"
                )
    return len(views) * len(packets), faults


def test_three_oracles_agree_on_every_verdict(
    ethernet: list[Packet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = ip_packets()
    assert len(EXPRESSIONS) >= 250
    assert min(len(ethernet), len(raw)) >= 1000
    assert set(_views(Linktype.ETHERNET)) == set(EXPRESSIONS)
    total, faults = _compare(_views(Linktype.ETHERNET), ethernet, Linktype.ETHERNET, tmp_path)
    more, raw_faults = _compare(_views(Linktype.RAW_IP), raw, Linktype.RAW_IP, tmp_path)
    faults += raw_faults
    with capsys.disabled():
        print(f"\n{total + more:,} verdicts compared, {len(faults)} mismatches")
    assert not faults, "\n".join(faults[:20])
    assert total + more > ENOUGH


def test_expressions_divide_packets(ethernet: list[Packet]) -> None:
    """Filters that match nothing, or everything, would compare nothing."""
    always = never = 0
    for expression in EXPRESSIONS:
        interpreter = Libpcap(compile_pcap(expression, Linktype.ETHERNET).instructions)
        matched = sum(map(interpreter.matches, ethernet))
        always += matched == len(ethernet)
        never += matched == 0
        if matched in (0, len(ethernet)):
            print(f"{matched} of {len(ethernet)}: {expression}")
    assert always <= 5
    assert never <= 8


@pytest.mark.timeout(3 * 3600 if is_full_tier() else 900)  # s; 100,000 compiles take most of them
def test_random_filters_match_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    """The oracle is not libpcap: primitives are parsed by the test, evaluated over scapy."""
    chance = random.Random(12)
    frames = chance.sample([Frame(data) for data in whole_frames()], 60)
    packets = [Packet(frame.data, len(frame.data)) for frame in frames]
    views = {}
    for _ in range(100_000 if is_full_tier() else 1_000):
        text = write(chance, chance.randrange(1, 7))
        try:
            views[text] = compile_filter(text).l2
        except FilterError:
            expression = read(text)
            assert not any(matches(expression, frame) for frame in frames), text
    faults = []
    verdicts = kernel_verdicts(list(views.values()), packets)
    for text, kernel in zip(views, verdicts, strict=True):
        expression = read(text)
        if kernel != [matches(expression, frame) for frame in frames]:
            faults.append(text)
    with capsys.disabled():
        print(f"\n{len(views):,} random filters compared, {len(faults)} wrong")
    assert not faults, "\n".join(faults[:20])
