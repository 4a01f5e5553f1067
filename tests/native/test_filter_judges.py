"""Every verdict of every filter, by three judges that share no code but libpcap's compiler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pypwru.errors import FilterError
from pypwru.filter.pcap import Linktype, compile_pcap
from pypwru.filter.translation import Translation
from tests.oracles.filter_packets import ethernet_packets, ip_packets
from tests.oracles.filters import (
    Libpcap,
    Packet,
    expressions,
    kernel_verdicts,
    pylibpcap_matches,
    write_pcap,
)
from tests.support.need import need

pytestmark = pytest.mark.native

EXPRESSIONS = expressions()
ENOUGH = 250_000


@pytest.fixture(autouse=True)
def _root() -> None:
    need(os.geteuid() == 0, "root, for BPF_PROG_TEST_RUN")


@pytest.fixture(scope="module")
def ethernet() -> list[Packet]:
    return ethernet_packets()


def _views(linktype: Linktype) -> dict[str, Translation]:
    """The expressions that libpcap compiles for ``linktype``."""
    views = {}
    for expression in EXPRESSIONS:
        try:
            program = compile_pcap(expression, linktype)
        except FilterError:
            continue
        views[expression] = Translation(program, has_tag=linktype is Linktype.ETHERNET)
    return views


def _compare(
    views: dict[str, Translation], packets: list[Packet], linktype: Linktype, folder: Path
) -> tuple[int, list[str]]:
    """How many verdicts were compared, and the disagreements."""
    capture = folder / f"{linktype.name}.pcap"
    write_pcap(capture, packets, linktype)
    faults = []
    verdicts = kernel_verdicts(list(views.values()), packets)
    for (expression, view), kernel in zip(views.items(), verdicts, strict=True):
        # python-libpcap can't be told to begin with empty scratch memory (see Libpcap).
        assert not any(name.startswith("M") for name in view.plan.liveness.at_entry), expression
        interpreter = Libpcap(view.program.instructions)
        reader = pylibpcap_matches(capture, expression)
        for number, packet in enumerate(packets):
            judged = (kernel[number], interpreter.matches(packet), number in reader)
            if len(set(judged)) > 1:
                faults.append(
                    f"{linktype.name} '{expression}' packet {number} (kernel, libpcap, "
                    f"python-libpcap) say {judged}: {packet.data.hex()} of {packet.length}"
                )
    return len(views) * len(packets), faults


def test_three_judges_agree_on_every_verdict(
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


def test_every_expression_divides_the_packets(ethernet: list[Packet]) -> None:
    """A judge of filters that nothing matches, or everything, would be no judge."""
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
