"""Filters of the packet inside a tunnel, of packets that come from the wire.

scapy writes the tunnels; the oracle is tcpdump, with a capture of the inner packets alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from pypwru.filter.pcap import Linktype
from tests.native.tracing import Network, network, tracing
from tests.oracles import filters

pytestmark = pytest.mark.native

ECHO = IP(src="10.9.0.1", dst="10.9.0.2") / ICMP() / Raw(bytes(30))
STREAM = IP(src="10.9.0.2", dst="10.9.0.3", options=b"\1\1\1\1") / TCP(dport=443, flags="S")
ECHO6 = IPv6(src="fd09::1", dst="fd09::2") / ICMPv6EchoRequest(data=bytes(30))
MACS = Ether(src="02:00:00:00:aa:01", dst="02:00:00:00:aa:02")
OTHER_MACS = Ether(src="02:00:00:00:bb:01", dst="ff:ff:ff:ff:ff:ff")

FRAMES = {
    "echo": MACS / ECHO,
    "stream": OTHER_MACS / STREAM,
    "echo6": MACS / ECHO6,
    "tagged": MACS / Dot1Q(vlan=7) / ECHO,
    "twice tagged": MACS / Dot1Q(vlan=7) / Dot1Q(vlan=8) / STREAM,
    "arp": OTHER_MACS / ARP(pdst="10.9.0.2"),
}
PACKETS = {"echo": ECHO, "stream": STREAM, "echo6": ECHO6}
OPTIONS = [GeneveOptions(classid=1, type=2, data=bytes(12)), GeneveOptions(classid=1, data=b"")]

OF_FRAMES: Mapping[str, Packet] = {
    "VXLAN": UDP(sport=5000, dport=4789) / VXLAN(vni=42, flags="Instance"),
    "VXLAN of Linux": UDP(sport=5000, dport=8472) / VXLAN(vni=42, flags="Instance"),
    "VXLAN with a group": UDP(sport=5000, dport=4789) / VXLAN(vni=4, flags="Instance+G", gpid=9),
    "Geneve": UDP(sport=5000, dport=6081) / GENEVE(vni=43, proto=0x6558),
    "Geneve with options": UDP(dport=6081) / GENEVE(vni=43, proto=0x6558, options=OPTIONS),
    "GRE of frames": GRE(proto=0x6558, key_present=1, key=7),
}
"""Headers between the outer IP header and a frame."""
OF_PACKETS: Mapping[str, Packet] = {
    "GRE": GRE(),
    "GRE with all": GRE(
        chksum_present=1, key_present=1, key=7, seqnum_present=1, sequence_number=9
    ),
    "Geneve of IP": UDP(sport=5000, dport=6081) / GENEVE(),
}
"""Headers before an IP packet, whose type is filled in."""
NO_TUNNELS: Mapping[str, Packet] = {
    "UDP": UDP(sport=5000, dport=9) / Raw(bytes(MACS / ECHO)),
    "VXLAN without VNI": UDP(sport=5000, dport=4789) / Raw(bytes(8) + bytes(MACS / ECHO)),
    "VXLAN-GPE": UDP(sport=5000, dport=4789) / Raw(b"\x0c\0\0\1\0\0\x2a\0" + bytes(ECHO)),
    "Geneve of tomorrow": UDP(sport=5000, dport=6081)
    / GENEVE(version=1, proto=0x6558)
    / MACS
    / ECHO,
    "GRE of PPTP": GRE(version=1, proto=0x0800) / ECHO,
    "TCP": TCP(dport=4789) / Raw(bytes(40)),
}


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


class Tunnels:
    """Frames with a tunnel in each, and the inner packets.

    Each has its own outer addresses, by which a line names it.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.frames: list[bytes] = []
        self.names: dict[str, str] = {}
        self.inner: dict[str, bytes | None] = {}
        """Name -> the inner packet, None without a tunnel."""
        self.has_frame: dict[str, bool] = {}
        for header, between in OF_FRAMES.items():
            for name, frame in FRAMES.items():
                self._add(f"{header}, {name}", between / frame, bytes(frame), has_frame=True)
        for header, between in OF_PACKETS.items():
            for name, packet in PACKETS.items():
                self._add(f"{header}, {name}", between / packet, bytes(packet))
        for name, packet in PACKETS.items():
            self._add(f"IPIP, {name}", packet, bytes(packet))
        for name, payload in NO_TUNNELS.items():
            self._add(name, payload, None)

    def _add(
        self, name: str, payload: Packet, inner: bytes | None, *, has_frame: bool = False
    ) -> None:
        net, number = self.net, 1 + len(self.frames) // 2
        # Linux puts such a header before an inner IPv6 packet (ip6_tnl, encaplimit).
        limit = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")])
        v4, v6 = f"10.8.{number >> 8}.{number & 255}", f"fd08::{number:x}"
        outer = {
            v4: IP(src=v4, dst=net.v4(2), options=b"\1\1\1\1" if number % 2 else b""),
            f"[{v6}]": IPv6(src=v6, dst=net.v6(2)),
        }
        if number % 2:
            outer[f"[{v6}]"] /= limit
        for address, header in outer.items():
            self.frames.append(bytes(Ether(src=net.mac(1), dst=net.mac(2)) / header / payload))
            self.names[address] = f"{name} over {address}"
            self.inner[self.names[address]] = inner
            self.has_frame[self.names[address]] = has_frame

    def shown(self, *words: str) -> set[str]:
        """Return the names of those with an event at reception."""
        expression = "src net 10.8.0.0/16 or src net fd08::/16"
        with tracing(*words, expression) as run:
            self.net.send(self.frames)
        assert run.status == 0, run.stderr
        received = [line for line in run.lines if line.func == "tp:netif_receive_skb"]
        sources = [line.tuple.partition("->")[0].rpartition(":")[0] for line in received]
        assert len(sources) == len(set(sources))
        return {self.names[source] for source in sources}

    def matching(self, folder: Path, l2: str, l3: str) -> set[str]:
        """Return the names of those that match by tcpdump, and of those without a tunnel."""
        found = {name for name, inner in self.inner.items() if inner is None}
        tunnels = [(name, inner) for name, inner in self.inner.items() if inner is not None]
        matching = {name for name, _ in tunnels}
        if l2:
            frames = [(name, inner) for name, inner in tunnels if self.has_frame[name]]
            matching &= tcpdump_names(folder, frames, l2, Linktype.ETHERNET)
        if l3:
            packets = [
                (name, network_packet(inner) if self.has_frame[name] else inner)
                for name, inner in tunnels
            ]
            matching &= tcpdump_names(folder, packets, l3, Linktype.RAW_IP)
        return found | matching


def network_packet(frame: bytes) -> bytes:
    """Return the bytes behind the Ethernet header and its tags."""
    start = 14
    while frame[start - 2 : start] == b"\x81\0":
        start += 4
    return frame[start:]


def tcpdump_names(
    folder: Path, packets: Sequence[tuple[str, bytes]], expression: str, linktype: Linktype
) -> set[str]:
    """Return the names of packets that match by tcpdump."""
    capture = folder / "inner.pcap"
    rows = [filters.Packet(data, len(data)) for _, data in packets]
    filters.write_pcap(capture, rows, linktype)
    return {packets[number][0] for number in filters.tcpdump_matches(capture, expression)}


@pytest.fixture(scope="module")
def tunnels(net: Network) -> Tunnels:
    return Tunnels(net)


@pytest.mark.parametrize(
    ("l2", "l3"),
    [
        ("", "icmp"),
        ("", "tcp port 443 and tcp[tcpflags] & tcp-syn != 0"),
        ("", "ip6"),
        ("", "not icmp"),
        ("", "host 10.9.0.2"),
        ("ether src 02:00:00:00:aa:01", ""),
        ("ether broadcast", ""),
        ("vlan 7", ""),
        ("arp", ""),
        ("icmp or icmp6", ""),
        ("ether src 02:00:00:00:aa:01", "icmp"),
        ("vlan", "dst port 443"),
    ],
)
def test_inner_packet_decides(tunnels: Tunnels, tmp_path: Path, l2: str, l3: str) -> None:
    words = [f"--filter-tunnel-pcap-l2={l2}"] if l2 else []
    words += [f"--filter-tunnel-pcap-l3={l3}"] if l3 else []
    expected = tunnels.matching(tmp_path, l2, l3)
    assert len(expected) > 2 * len(NO_TUNNELS), "no tunnel matches by tcpdump"
    assert len(expected) < len(tunnels.inner), "everything matches by tcpdump"
    assert tunnels.shown(*words) == expected


def test_later_fragment_is_no_tunnel(net: Network) -> None:
    inner = MACS / IP(src="10.9.0.1", dst="10.9.0.2") / UDP() / Raw(bytes(2000))
    outer = IP(src="10.8.9.9", dst=net.v4(2)) / UDP(dport=4789) / VXLAN(flags="Instance") / inner
    fragments = [
        bytes(Ether(src=net.mac(1), dst=net.mac(2)) / part) for part in fragment(outer, 1000)
    ]
    for expression, count in {"icmp": len(fragments) - 1, "udp": len(fragments)}.items():
        with tracing(f"--filter-tunnel-pcap-l3={expression}", "src host 10.8.9.9") as run:
            net.send(fragments)
        received = [line for line in run.lines if line.func == "tp:netif_receive_skb"]
        assert len(received) == count
