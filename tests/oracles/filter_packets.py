"""Packets for filters: every layer that pcap-filter(7) knows, whole, cut short, and damaged.

Longer than 300 lines because it is a list: one stretch for each protocol.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Layers
from scapy.packet import Raw

from tests.oracles.filters import Packet

SEED = 20240607
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:05")
V4 = ("10.0.0.1", "10.0.0.2", "192.168.1.7", "172.16.3.4", "10.0.0.200", "224.0.0.5", "127.0.0.1")
V6 = ("2001:db8::1", "2001:db8::2", "fe80::2", "ff02::1", "2001:db8:1::9")
PORTS = (
    443,
    443,
    443,
    80,
    80,
    53,
    22,
    179,
    8080,
    8443,
    6010,
    33434,
    1024,
    4789,
    6081,
    33024,
    40000,
)
VLANS = (10, 20, 100, 200, 0, 4095)
FLAGS = ("S", "SA", "A", "PA", "F", "R", "FA", "SEC", "UA", "")
GENEVE_PORT = 6081
ETHERNET_HEADER = 14


class _Maker:
    """Makes layers at random, the same ones every time."""

    def __init__(self) -> None:
        self.random = random.Random(SEED)

    def payload(self) -> Layers:
        kinds = (b"GET / HTTP/1.1\r\n", b"", b"\0", self.random.randbytes(20))
        return Raw(self.random.choice((*kinds, self.random.randbytes(self.random.randrange(1460)))))

    def transport(self) -> Layers:
        pick, port = self.random.choice, partial(self.random.choice, PORTS)
        kind = self.random.randrange(6)
        if kind <= 1:
            options = pick(([], [("MSS", 1460)], [("Timestamp", (1, 2)), ("SAckOK", b"")]))
            numbers = {"seq": self.random.getrandbits(32), "ack": self.random.getrandbits(32)}
            return TCP(
                sport=port(), dport=port(), flags=pick(FLAGS), options=options, **numbers
            ) / (self.payload())
        if kind <= 3:
            return UDP(sport=port(), dport=port()) / self.payload()
        if kind == 4:
            return SCTP(sport=3868, dport=pick((3868, 53))) / self.payload()
        return Raw(self.random.randbytes(24))

    def icmp(self) -> Layers:
        kind = self.random.choice((0, 3, 8, 8, 11))
        return ICMP(type=kind, code=self.random.randrange(2), id=0x1234, seq=1) / self.payload()

    def icmp6(self) -> Layers:
        kinds = (
            ICMPv6EchoRequest(id=7, data=b"x" * 20),
            ICMPv6ND_NS(tgt=self.random.choice(V6)),
            ICMPv6ND_RA(),
            Raw(bytes((1, 4, 0, 0)) + self.random.randbytes(20)),
        )
        return self.random.choice(kinds)

    def ip(self) -> Layers:
        pick = self.random.choice
        header = IP(
            src=pick(V4),
            dst=pick((*V4, "10.255.255.255")),
            ttl=pick((1, 2, 3, 32, 64, 64, 128, 255)),
            id=self.random.getrandbits(16),
            flags=pick(("", "DF", "DF")),
            tos=pick((0, 0, 0xB8)),
        )
        if self.random.random() < 0.25:
            header.options = [IPOption_NOP()] * 4 * self.random.randrange(1, 11)
        chance = self.random.random()
        if chance < 0.55:
            return header / self.transport()
        if chance < 0.75:
            return header / self.icmp()
        if chance < 0.85:
            header.flags, header.frag = pick(("MF", "")), self.random.randrange(0, 200)
            return header / self.transport()
        if chance < 0.92:
            return (
                header / AH(spi=5, icv=b"\0" * 4 * self.random.randrange(1, 5)) / self.transport()
            )
        header.proto = pick((2, 4, 9, 41, 47, 50, 89, 103, 112, 132))
        return header / Raw(self.random.randbytes(40))

    def ip6(self) -> Layers:
        pick = self.random.choice
        packet: Layers = IPv6(src=pick(V6), dst=pick(V6), hlim=pick((1, 64, 255)))
        if self.random.random() < 0.45:
            for _ in range(self.random.randrange(1, 5)):
                packet = packet / self.extension()
        chance = self.random.random()
        if chance < 0.6:
            return packet / self.transport()
        if chance < 0.9:
            return packet / self.icmp6()
        return packet / Raw(self.random.randbytes(30))

    def extension(self) -> Layers:
        pads = [PadN(optdata=b"\0" * self.random.randrange(0, 14))]
        kinds = (
            IPv6ExtHdrHopByHop(options=pads),
            IPv6ExtHdrDestOpt(options=pads),
            IPv6ExtHdrRouting(addresses=list(V6[: self.random.randrange(0, 3)])),
            IPv6ExtHdrFragment(offset=self.random.choice((0, 0, 185)), m=1, id=9),
            AH(spi=5, icv=b"\0" * 4 * self.random.randrange(1, 4)),
        )
        return self.random.choice(kinds)

    def network(self) -> Layers:
        return self.ip() if self.random.random() < 0.6 else self.ip6()

    def arp(self) -> Layers:
        return ARP(
            op=self.random.choice((1, 2, 3, 4)),
            hwsrc=MACS[0],
            hwdst=MACS[1],
            psrc="10.0.0.1",
            pdst="10.0.0.2",
        )

    def ether(self) -> Layers:
        return Ether(src=self.random.choice(MACS[:2]), dst=self.random.choice(MACS))

    def tags(self, most: int = 3) -> Layers:
        stack: Layers | None = None
        for _ in range(self.random.randrange(1, most + 1)):
            kind = self.random.choice((Dot1Q, Dot1Q, Dot1AD))
            tag = kind(vlan=self.random.choice(VLANS), prio=self.random.randrange(8))
            stack = tag if stack is None else stack / tag
        assert stack is not None
        return stack


def _labels(maker: _Maker) -> bytes:
    """An MPLS stack of one to three labels."""
    count = maker.random.randrange(1, 4)
    words = []
    for number in range(count):
        bottom = number == count - 1
        label = maker.random.choice((100, 100, 1024, 1024, 16))
        words.append((label << 12 | int(bottom) << 8 | 64).to_bytes(4, "big"))
    return b"".join(words)


def _geneve(maker: _Maker) -> Layers:
    options = maker.random.randrange(3)
    protocol = maker.random.choice((0x6558, 0x0800, 0x86DD))
    vni = maker.random.choice((100, 0xFFFFFF, 7))
    header = bytes((options,)) + b"\0" + protocol.to_bytes(2, "big") + (vni << 8).to_bytes(4, "big")
    inner: Layers = maker.ip() if protocol == 0x0800 else maker.ip6()
    if protocol == 0x6558:
        ether = Ether(src="02:00:00:00:00:11", dst=MACS[0])
        tags = maker.tags(2) if maker.random.random() < 0.3 else None
        inner = maker.arp() if maker.random.random() < 0.2 else maker.network()
        inner = ether / tags / inner if tags is not None else ether / inner
    data = header + b"\0" * 4 * options + bytes(inner)
    outer = IP(src=V4[0], dst=V4[1]) if maker.random.random() < 0.6 else IPv6(src=V6[0], dst=V6[1])
    return outer / UDP(sport=40000, dport=GENEVE_PORT) / Raw(data)


def _llc(maker: _Maker) -> Layers:
    frame = Dot3(src=MACS[0], dst=maker.random.choice(("01:80:c2:00:00:00", MACS[1])))
    saps = maker.random.choice((0x42, 0xFE, 0xE0, 0xF0, 0xAA, 0x06))
    control = maker.random.choice((0x03, 0x01, 0x05, 0x09, 0x63, 0x43, 0x6F, 0xE3, 0xAF, 0x87, 0))
    chance = maker.random.random()
    if chance < 0.2:
        return frame / LLC() / STP()
    if chance < 0.4:
        code = maker.random.choice((0x0800, 0x809B, 0x80F3, 0x8137))
        return frame / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=code) / Raw(b"\1" * 20)
    if chance < 0.7:
        nlpid = maker.random.choice((0x81, 0x82, 0x83, 0x83))
        kind = maker.random.choice((15, 16, 17, 18, 20, 24, 25, 26, 27))
        isis = bytes((nlpid, 27, 1, 0, kind, 1, 0, 0)) + b"\0" * 20
        return frame / LLC(dsap=0xFE, ssap=0xFE, ctrl=3) / Raw(isis)
    return frame / LLC(dsap=saps, ssap=saps, ctrl=control) / Raw(maker.random.randbytes(12))


def _whole(maker: _Maker) -> Iterator[bytes]:
    """About 1,500 complete frames."""
    ether = maker.ether
    for _ in range(600):
        yield bytes(ether() / maker.network())
    for _ in range(20):
        arp = maker.arp()
        yield bytes(Ether(dst=MACS[2], src=MACS[0], type=0x8035 if arp.op > 2 else 0x0806) / arp)
    for _ in range(300):
        inner = maker.arp() if maker.random.random() < 0.1 else maker.network()
        yield bytes(ether() / maker.tags() / inner)
    for _ in range(100):
        yield (
            bytes(Ether(src=MACS[0], dst=MACS[1], type=0x8847))
            + _labels(maker)
            + bytes(maker.network())
        )
    for _ in range(20):
        frame = ether() / maker.tags(1)
        frame.lastlayer().type = 0x8847
        yield bytes(frame) + _labels(maker) + bytes(maker.network())
    for number in range(120):
        network = maker.network()
        session = PPPoE(sessionid=(39, 7)[number % 2]) / PPP() / network
        tags = maker.tags(1) if number % 5 == 0 else None
        yield bytes(ether() / tags / session if tags is not None else ether() / session)
    for _ in range(5):
        yield bytes(
            Ether(src=MACS[0], dst=MACS[1], type=0x8863) / Raw(b"\x11\x09\0\0\0\x04\1\1\0\0")
        )
    for _ in range(120):
        yield bytes(ether() / _geneve(maker))
    for _ in range(30):
        vxlan = (
            IP(src=V4[0], dst=V4[1])
            / UDP(sport=1, dport=4789)
            / VXLAN(vni=42)
            / ether()
            / maker.network()
        )
        yield bytes(ether() / vxlan)
        yield bytes(ether() / IP(src=V4[0], dst=V4[2]) / GRE() / maker.network())
    for _ in range(160):
        yield bytes(_llc(maker))
    for kind in (0x6003, 0x6004, 0x6002, 0x6001, 0x809B, 0x80F3, 0x8137, 0x88CC, 0x888E, 0x22F0):
        yield bytes(Ether(src=MACS[0], dst=MACS[3], type=kind)) + maker.random.randbytes(40)


def _rare(maker: _Maker) -> Iterator[bytes]:
    """Yield frames that are too rare among the random ones."""
    ip = IP(src=V4[0], dst=V4[1])
    geneve = bytes((0, 0, 0x65, 0x58, 0, 0, 100, 0))
    inner = Ether(src="02:00:00:00:00:11", dst=MACS[0]) / ip / TCP(dport=443)
    yield bytes(maker.ether() / ip / UDP(dport=GENEVE_PORT) / Raw(geneve + bytes(inner)))
    labels = bytes.fromhex("00064040 00400140")
    yield bytes(Ether(src=MACS[0], dst=MACS[1], type=0x8847)) + labels + bytes(ip / ICMP())
    yield bytes(maker.ether() / ip / TCP(dport=443, flags="A"))
    yield bytes(maker.ether() / ip / UDP(dport=53) / Raw(bytes((8, 0, 0, 0, 1))))
    yield bytes(maker.ether() / IPv6(src=V6[0], dst=V6[1]) / ICMPv6EchoRequest(code=3))
    yield bytes(maker.ether() / ip / ICMP(id=0x1234))


def _damaged(maker: _Maker, whole: list[bytes]) -> Iterator[bytes]:
    """Yield random bytes, and frames in which some bytes were overwritten."""
    for _ in range(60):
        yield maker.random.randbytes(maker.random.randrange(1, 200))
    for _ in range(150):
        frame = bytearray(maker.random.choice(whole))
        for _ in range(maker.random.randrange(1, 6)):
            frame[maker.random.randrange(min(len(frame), 80))] = maker.random.randrange(256)
        yield bytes(frame)


def whole_frames() -> list[bytes]:
    """Every frame of :func:`ethernet_packets` that is neither cut short nor damaged."""
    maker = _Maker()
    return [*_whole(maker), *_rare(maker)]


def ethernet_packets() -> list[Packet]:
    """More than 1,000 captured frames, a quarter of them cut short."""
    maker = _Maker()
    whole = [*_whole(maker), *_rare(maker)]
    packets = [Packet(frame, len(frame)) for frame in whole]
    packets += [Packet(frame, len(frame)) for frame in _damaged(maker, whole)]
    for _ in range(300):
        frame = maker.random.choice(whole)
        most = len(frame) if maker.random.random() < 0.2 else min(len(frame), 90)
        packets.append(Packet(frame[: maker.random.randrange(most)], len(frame)))
    return packets


def ip_packets() -> list[Packet]:
    """More than 1,000 captured packets without a link layer: the same, from their byte 14 on."""
    return [
        Packet(packet.data[ETHERNET_HEADER:], packet.length - ETHERNET_HEADER)
        for packet in ethernet_packets()
        if packet.length >= ETHERNET_HEADER
    ]
