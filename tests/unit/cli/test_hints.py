"""What is said to who types what other tools understand, and that it would be understood."""

from __future__ import annotations

import shlex

import pytest

from pypwru.cli import hints
from pypwru.cli.flags import parse
from pypwru.errors import UsageError
from pypwru.filter.compiler import compile_filter


def hint(typed: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(shlex.split(typed))
    return caught.value.hint


@pytest.mark.parametrize(
    ("typed", "said"),
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
def test_hints(typed: str, said: str) -> None:
    assert hint(typed) == said


@pytest.mark.parametrize(
    "meant",
    [*hints._SHORT_EQUIVALENTS.values(), *hints._LONG_EQUIVALENTS.values()],
    ids=lambda meant: meant,
)
def test_what_is_advised_can_be_typed(meant: str) -> None:
    if meant.startswith("the filter"):
        value = "10.0.0.1" if "host" in meant else "53" if "port" in meant else "tcp"
        assert compile_filter(meant.removeprefix("the filter ").strip("'").format(value))
    elif meant.startswith("--"):
        value = "json" if meant == "--output-{}" else "x.pcap" if "output-pcap" in meant else "4096"
        more = "--output-pcap x.pcap --pcap-max-size 5" if meant.startswith("--pcap") else ""
        parse(f"{more} {meant.format(value)}".split())
    else:
        assert meant.startswith("ip link")
