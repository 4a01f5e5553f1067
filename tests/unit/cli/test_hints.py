"""Hints for options of other tools, and that the advised options are valid."""

from __future__ import annotations

import shlex

import pytest

from pypwru.cli import hints
from pypwru.cli.flags import parse
from pypwru.errors import UsageError
from pypwru.filter.compiler import compile_filter


def hint(command_line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(shlex.split(command_line))
    return caught.value.hint


@pytest.mark.parametrize(
    ("command_line", "expected"),
    [
        ("-i eth0 icmp", "-i eth0: take --filter-ifname eth0"),
        ("-ieth0", "-i eth0: take --filter-ifname eth0"),
        ("-w x.pcap", "-w x.pcap: take --output-pcap x.pcap"),
        ("-w -", "-w -: take --output-pcap -"),
        ("-c 10", "-c 10: take --output-limit-lines 10"),
        ("-c --drops", "-c: take --output-limit-lines ..."),
        ("-nn icmp", "-n: leave it out, addresses and ports are numbers anyway"),
        ("--filter-src-ip ::1", "--filter-src-ip ::1: take the filter 'src host ::1'"),
        ("--filter-dst-port=53", "--filter-dst-port 53: take the filter 'dst port 53'"),
        ("--output-type json", "--output-type json: take --output-json"),
        ("--output-relative-timestamp", "--output-relative-timestamp: take --timestamp relative"),
        ("--fliter-func tcp.*", "did you mean --filter-func?"),
        ("--output-jsno", "did you mean --output-json?"),
        ("--backend krpobe", "did you mean --backend=kprobe?"),
        ("--timestamp=abolute", "did you mean --timestamp=absolute?"),
        ("--output-nft=txt", "did you mean --output-nft=text?"),
        ("--ready-fiel x", ""),
        ("--zzz", ""),
        ("-Z", ""),
        ("--priority 9", ""),
    ],
)  # fmt: skip
def test_hints(command_line: str, expected: str) -> None:
    assert hint(command_line) == expected


@pytest.mark.parametrize(
    "advice",
    [*hints._SHORT_EQUIVALENTS.values(), *hints._LONG_EQUIVALENTS.values()],
    ids=lambda advice: advice,
)
def test_advised_options_are_valid(advice: str) -> None:
    if advice.startswith("the filter"):
        value = "10.0.0.1" if "host" in advice else "53" if "port" in advice else "tcp"
        assert compile_filter(advice.removeprefix("the filter ").strip("'").format(value))
    elif advice.startswith("--"):
        value = (
            "json" if advice == "--output-{}" else "x.pcap" if "output-pcap" in advice else "4096"
        )
        more = "--output-pcap x.pcap --pcap-max-size 5" if advice.startswith("--pcap") else ""
        parse(f"{more} {advice.format(value)}".split())
    else:
        assert advice.startswith("ip link")
