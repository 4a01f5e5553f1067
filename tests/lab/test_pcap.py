"""--output-pcap on real kernels: its bytes are tcpdump's; Wireshark reads files and streams."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.lab import kernels, results
from tests.lab.jobs.pcap import (
    DATAGRAMS,
    DELIVERED,
    LINKS,
    PARTS,
    PARTS_PORTS,
    PINGS,
    REASSEMBLED,
    RECEIVED,
    RULE_TEXT,
    SENT,
    TAP,
    pattern,
)
from tests.lab.kernels import Feature
from tests.lab.main_job import logged
from tests.support.captures import Packet, check, differences, octets, packets, tshark

pytestmark = pytest.mark.lab
SUITE = "pcap"

_OUTBOUND = 2  # of pcapng's epb_flags
# Link -> the functions that each of its packets passes once: SENT before tcpdump's tap, the others
# behind it. On lo libpcap leaves out what is sent. A tunnel's packets are received as lists, which
# pass no function one by one; TAP has them.
AT_THE_INTERFACE = {
    "lo": RECEIVED,
    "near0": SENT + RECEIVED,
    "near0.10": SENT + DELIVERED,
    "rtr0": SENT + RECEIVED,
    "rtr0.10": SENT + DELIVERED,
    "rtr1": SENT + RECEIVED,
    "far0": SENT + RECEIVED,
}
# Least number of packets by display filter, of all events.
KINDS = {
    "tcp && frame.len > 20000": 10,
    "ip.flags.mf == 1": 10,
    "ipv6.fraghdr": 10,
    "tcp.port == 4104 && ipv6": 20,
    "vlan.id == 10 && icmp": 4,
    "vlan.id == 10 && tcp && frame.len > 2000": 2,
    "vxlan && icmp": 4,
    "vxlan && tcp && frame.len > 2000": 2,
    "arp": 4,
    'frame.interface_name == "lo" && tcp': 10,
    'frame.interface_name == "lo" && udp.length > 60000': 4,
}


@dataclass(frozen=True)
class Guest:
    """The result of a boot; its files are in ``folder``."""

    kernel: str
    folder: Path
    found: Mapping[str, Any]

    def step(self, name: str) -> Any:
        return results.step(self.kernel, SUITE, name)

    def done(self, name: str, run: str = "") -> dict[str, str]:
        """Return the summary line of a step's pypwru."""
        seen = self.step(name)[run] if run else self.step(name)
        assert seen["status"] == 0
        return logged(seen["err"], "Done")


@pytest.fixture(scope="module", params=kernels.names(SUITE))
def kernel(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def guest(kernel: str, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    found = results.result(kernel, SUITE)
    folder = tmp_path_factory.mktemp("captures")
    for name, content in found["files"].items():
        (folder / name).write_bytes(content)
    return Guest(kernel, folder, found)


@pytest.fixture(scope="module")
def captured_packets(guest: Guest) -> list[Packet]:
    guest.step("truth")
    return packets(guest.folder / "all.pcapng")


def packets_at(
    guest: Guest, captured_packets: list[Packet], link: str, functions: Collection[str]
) -> list[bytes]:
    """Return the link's packets as libpcap has them. ``link`` is its namespace and name."""
    namespace, _, name = link.partition("-")
    inode = str(guest.found["inodes"][namespace])
    return [
        one.octets
        for one in captured_packets
        if (one.netns, one.interface) == (inode, name)
        and one.func in functions
        and not (name == "lo" and one.func in TAP and one.direction == _OUTBOUND)
    ]


@pytest.mark.full
def test_packets_are_those_of_tcpdump(
    guest: Guest, captured_packets: list[Packet], capsys: pytest.CaptureFixture[str]
) -> None:
    counts, wrong = [], []
    for namespace, links in LINKS.items():
        for name in links:
            link = f"{namespace}-{name}"
            theirs = octets(guest.folder / f"{link}.pcap")
            assert len(theirs) >= 4, link
            for functions in filter(None, (TAP, AT_THE_INTERFACE.get(name))):
                found = differences(packets_at(guest, captured_packets, link, functions), theirs)
                wrong += [f"{link}, {functions[0]}: {text}" for text in found]
            counts.append(f"{link} {len(theirs)}")
    with capsys.disabled():
        print(f"\n{guest.kernel}: {', '.join(counts)}; differences {len(wrong)}")
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.full
def test_classic_pcap_has_same_bytes(guest: Guest) -> None:
    guest.step("truth")
    theirs = [
        packet
        for namespace, links in LINKS.items()
        for link in links
        if link != "lo"
        for packet in octets(guest.folder / f"{namespace}-{link}.pcap")
    ]
    ours = octets(guest.folder / "tap.pcap")
    wrong = differences(ours, theirs)
    assert not wrong, "\n".join(wrong[:20])
    assert len(ours) > 100


@pytest.mark.full
def test_no_packet_is_lost_or_truncated(guest: Guest, captured_packets: list[Packet]) -> None:
    for name, log in guest.step("truth")["tcpdump"].items():
        assert "\n0 packets dropped by kernel" in log, name
    for run in ("pcapng", "pcap"):
        done = guest.done("truth", run)
        assert done["lost_ring_full"] == done["not_shown"] == "0"
    assert all(one.length == len(one.octets) for one in captured_packets)


@pytest.mark.full
@pytest.mark.parametrize("expression", KINDS)
def test_all_kinds_are_captured(guest: Guest, expression: str) -> None:
    guest.step("truth")
    shown = tshark(guest.folder / "all.pcapng", "-Y", expression)
    assert shown.count("\n") >= KINDS[expression]


@pytest.mark.full
def test_reassembled_packet_is_whole(guest: Guest, captured_packets: list[Packet]) -> None:
    """Its fragments are a list behind the first; only the kernel has it in one piece."""
    for port in PARTS_PORTS:
        to = port.to_bytes(2, "big")  # behind it are a length and a checksum
        found = [
            one.octets[-PARTS:]
            for one in captured_packets
            if one.func in REASSEMBLED and one.octets[-PARTS - 6 : -PARTS - 4] == to
        ]
        assert found == [pattern(PARTS)], port


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("all.pcapng", marks=pytest.mark.full),
        pytest.param("tap.pcap", marks=pytest.mark.full),
        "first.pcapng",
        "loss.pcapng",
    ],
)
def test_wireshark_reads_file_without_complaint(guest: Guest, name: str) -> None:
    check(guest.folder / name)


def test_first_event_of_each_packet_is_written(guest: Guest) -> None:
    """By the text's lines: pings go one after another, and a packet's lines are together."""
    lines = [line for line in guest.step("first")["out"].splitlines() if line.startswith("0x")]
    first_events = []
    for line in lines:
        skb, *_, ends, func = line.split()
        first_events.append((skb, ends, func))
    text = [next(group) for _, group in groupby(first_events, key=lambda event: event[:2])]

    file = packets(guest.folder / "first.pcapng")
    assert [(one.skb, one.func) for one in file] == [(skb, func) for skb, _, func in text]
    keys = ("-T", "fields", "-e", "icmp.type", "-e", "icmp.seq")
    pinged = tshark(guest.folder / "first.pcapng", *keys)
    assert [tuple(map(int, line.split("\t"))) for line in pinged.splitlines()] == [
        (kind, number) for number in range(1, PINGS + 1) for kind in (8, 0)
    ]


def test_tshark_shows_drop_while_tracing(guest: Guest) -> None:
    live = guest.step("live")
    assert live["status"] == live["tshark_status"] == 0
    for count, text in enumerate(live["during"], start=1):
        shown = [line.split("\t") for line in text.splitlines()]
        assert len(shown) == count
        for func, kind, reason, chain, rule, verdict, words in shown:
            assert re.fullmatch(r"(sk_skb_reason_drop|kfree_skb(_reason)?)\b.*", func)
            assert (kind, chain, verdict) == ("drop", "inet cut input", "drop")
            assert re.fullmatch(r"#\d+ drop", rule)
            # A text is waited for a second, which can be too short here; the last one has it.
            assert words in ("", RULE_TEXT)
            has_reasons = kernels.kernel(guest.kernel).has(Feature.DROP_REASONS)
            assert "NETFILTER" in reason or not has_reasons
    assert words == RULE_TEXT


@pytest.mark.full
def test_killed_run_leaves_flushed_packets(guest: Guest, tmp_path: Path) -> None:
    flushed = guest.step("killed")["flushed"]
    content = (guest.folder / "killed.pcapng").read_bytes()
    before = tmp_path / "flushed.pcapng"
    before.write_bytes(content[:flushed])
    check(before)
    assert len(packets(before)) == 10
    assert len(content) > 2 * flushed
    # The kill can have cut a write, which tshark reports behind all whole packets.
    whole = octets(guest.folder / "killed.pcapng")
    assert whole[:10] == octets(before)
    assert len(whole) >= 20


def test_written_and_lost_are_all_packets(guest: Guest) -> None:
    """Each datagram passes both functions once."""
    done = {key: int(value) for key, value in guest.done("loss").items() if value.isdigit()}
    written = packets(guest.folder / "loss.pcapng")
    assert len(written) > 0
    assert done["lost_packets"] > 0
    assert len(written) + done["lost_packets"] == 2 * DATAGRAMS
