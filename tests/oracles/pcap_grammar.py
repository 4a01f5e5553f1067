"""pcap-filter(7) generated at random, parsed and evaluated without libpcap, over scapy's
dissection.

Everyday primitives, of frames that are whole. ``and`` and ``or`` are of equal precedence and taken
from the left, as the manual has it; ``proto`` of an IPv6 packet is its next header, or that of the
fragment header which follows (libpcap, ``gen_proto``); a port is that of TCP, UDP or SCTP, in IPv4
of a first fragment.
"""

from __future__ import annotations

import ipaddress
import operator
import random
import re
from collections.abc import Callable

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot3, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet as Layers

Matcher = Callable[["Frame"], bool]
Pick = Callable[[tuple[bool, bool]], bool]
"""Combines a condition's values of source and destination."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TOKEN = re.compile(r"&&|\|\||[!<>=]=|\[[^]]*\]|[()!<>=&]|[^\s()\[\]!<>=&|]+")
_ETHERTYPES = {"ip": 0x0800, "arp": 0x0806, "rarp": 0x8035, "ip6": 0x86DD}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "icmp6": 58}
_WITH_PORTS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff")
V4 = ("10.0.0.1", "10.0.0.2", "192.168.1.7", "224.0.0.5", "127.0.0.1")
V6 = ("2001:db8::1", "2001:db8::2", "ff02::1")
NETS = ("10.0.0.0/8", "10.0.0.0/30", "192.168.0.0/16", "2001:db8::/32", "fe80::/10", "0.0.0.0/0")
PORTS = (443, 80, 53, 22, 8080, 1024, 33024, 65535)
NUMBERS = (0, 1, 2, 6, 17, 64, 69, 80, 255, 256, 443, 1000, 0x8100, 0xFFFFFFFF)
LENGTHS = 0.2
_NAMES = {"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16}


class Frame:
    """A dissected frame.

    Args:
        data: all of it.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ether: Layers = Ether(data)
        self.network: Layers = self.ether.payload
        if self.ethertype() == _ETHERTYPES["rarp"]:  # which scapy takes for unknown
            self.network = ARP(bytes(self.network))

    def ethertype(self) -> int:
        return 0 if isinstance(self.ether, Dot3) else int(self.ether.type)

    def protocols(self) -> set[tuple[str, int]]:
        """Return ("ip" or "ip6", protocol) pairs: two of a fragment of IPv6."""
        network = self.network
        if isinstance(network, IP):
            return {("ip", network.proto)}
        if not isinstance(network, IPv6):
            return set()
        found = {("ip6", network.nh)}
        if isinstance(network.payload, IPv6ExtHdrFragment):
            found.add(("ip6", network.payload.nh))
        return found

    def addresses(self) -> dict[str, tuple[str, str]]:
        """Protocol -> source and destination."""
        network = self.network
        if isinstance(network, IP):
            return {"ip": (network.src, network.dst)}
        if isinstance(network, IPv6):
            return {"ip6": (network.src, network.dst)}
        if isinstance(network, ARP):
            kind = "arp" if self.ethertype() == _ETHERTYPES["arp"] else "rarp"
            return {kind: (network.psrc, network.pdst)}
        return {}

    def ports(self) -> tuple[str, int, int] | None:
        """Protocol, source and destination."""
        transport = self.network.payload
        if isinstance(self.network, IPv6) or (
            isinstance(self.network, IP) and not self.network.frag
        ):
            for name, layer in _WITH_PORTS.items():
                if isinstance(transport, layer):
                    return name, transport.sport, transport.dport
        return None

    def part(self, name: str) -> bytes | None:
        """Return the bytes that ``name[...]`` reads; None if the frame has no such header."""
        network = self.network
        if name == "ether":
            return self.data
        if name in ("ip", "ip6"):
            layer = IP if name == "ip" else IPv6
            return bytes(network.original) if isinstance(network, layer) else None
        if isinstance(network, IP) and not network.frag and network.proto == _PROTOCOLS[name]:
            return bytes(network.original[4 * network.ihl :])
        return None


class OutOfBoundsError(Exception):
    """A filter read a byte behind the frame: then nothing matches, not even ``not``."""


def matches(matcher: Matcher, frame: Frame) -> bool:
    """Return whether ``frame`` matches the filter."""
    try:
        return matcher(frame)
    except OutOfBoundsError:
        return False


def read(text: str) -> Matcher:
    """Parse the filter ``text``."""
    reader = _Reader(_TOKEN.findall(text))
    matcher = reader.expression()
    assert not reader.tokens, reader.tokens
    return matcher


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def is_next(self, *words: str) -> bool:
        """Return whether one of ``words`` is next, and consume it then."""
        found = bool(self.tokens) and self.tokens[0] in words
        if found:
            self.tokens.pop(0)
        return found

    def expression(self) -> Matcher:
        found = self.term()
        while True:
            if self.is_next("and", "&&"):
                found = _both(found, self.term())
            elif self.is_next("or", "||"):
                found = _either(found, self.term())
            else:
                return found

    def term(self) -> Matcher:
        if self.is_next("not", "!"):
            inner = self.term()
            return lambda frame: not inner(frame)
        if self.is_next("("):
            found = self.expression()
            assert self.is_next(")"), self.tokens
            return found
        return self.primitive()

    def primitive(self) -> Matcher:
        protocol = ""
        if self.tokens[0] in (*_ETHERTYPES, *_PROTOCOLS, "ether"):
            protocol = self.tokens.pop(0)
            if self.tokens and self.tokens[0].startswith("["):
                start, _, size = self.tokens.pop(0)[1:-1].partition(":")
                return self.comparison(protocol, _number(start), _number(size or "1"))
        if self.is_next("len"):
            return self.comparison("len")
        pick = self.pick()
        if self.is_next("port", "portrange"):
            low, _, high = self.tokens.pop(0).partition("-")
            return _port(protocol, range(int(low), int(high or low) + 1), pick)
        if self.is_next("host", "net"):
            value = self.tokens.pop(0)
            if protocol == "ether":
                return lambda frame: pick((frame.ether.src == value, frame.ether.dst == value))
            return _address(protocol, ipaddress.ip_network(value), pick)
        return _protocol(protocol)

    def pick(self) -> Pick:
        """Parse which ends a primitive is about."""
        if self.is_next("dst"):
            return operator.itemgetter(1)
        if not self.is_next("src"):
            return any
        for word, pick in (("or", any), ("and", all)):
            if self.tokens[:2] == [word, "dst"]:
                del self.tokens[:2]
                return pick
        return operator.itemgetter(0)

    def comparison(self, name: str, start: int = 0, size: int = 0) -> Matcher:
        """Parse what is behind ``name[start:size]`` or ``len``: a mask, if any, and a relation."""
        mask = _number(self.tokens.pop(0)) if self.is_next("&") else 0xFFFFFFFF
        relation = _RELATIONS[self.tokens.pop(0)]
        number = _number(self.tokens.pop(0))

        def matcher(frame: Frame) -> bool:
            if name == "len":
                return relation(len(frame.data) & mask, number)
            part = frame.part(name)
            if part is None:
                return False
            if start + size > len(part):
                raise OutOfBoundsError
            return relation(int.from_bytes(part[start : start + size], "big") & mask, number)

        return matcher


def _number(word: str) -> int:
    return _NAMES[word] if word in _NAMES else int(word, 0)


def _both(one: Matcher, other: Matcher) -> Matcher:
    return lambda frame: one(frame) and other(frame)


def _either(one: Matcher, other: Matcher) -> Matcher:
    return lambda frame: one(frame) or other(frame)


def _protocol(name: str) -> Matcher:
    if name in _ETHERTYPES:
        return lambda frame: frame.ethertype() == _ETHERTYPES[name]
    number = _PROTOCOLS[name]
    of = {"icmp": ("ip",), "icmp6": ("ip6",)}.get(name, ("ip", "ip6"))
    return lambda frame: not frame.protocols().isdisjoint((version, number) for version in of)


def _port(protocol: str, numbers: range, pick: Pick) -> Matcher:
    def matcher(frame: Frame) -> bool:
        found = frame.ports()
        if found is None or protocol not in ("", found[0]):
            return False
        return pick((found[1] in numbers, found[2] in numbers))

    return matcher


def _address(protocol: str, network: Network, pick: Pick) -> Matcher:
    def matcher(frame: Frame) -> bool:
        for kind, (source, destination) in frame.addresses().items():
            if protocol in ("", kind) and (kind == "ip6") == (network.version == 6):
                return pick(
                    (
                        ipaddress.ip_address(source) in network,
                        ipaddress.ip_address(destination) in network,
                    )
                )
        return False

    return matcher


def write(chance: random.Random, leaves: int) -> str:
    """Write an expression of ``leaves`` primitives that :func:`read` reads."""
    if leaves == 1:
        return chance.choice(("", "", "", "not ", "! ")) + _primitive(chance)
    first = chance.randrange(1, leaves)
    one, other = write(chance, first), write(chance, leaves - first)
    operation = chance.choice(("and", "or", "and", "or", "&&", "||"))
    form = chance.choice(("{} {} {}", "{} {} ({})", "({}) {} {}", "not ({} {} {})", "({} {} {})"))
    return form.format(one, operation, other)


def _primitive(chance: random.Random) -> str:
    end = chance.choice(("", "", "src ", "dst ", "src or dst ", "src and dst "))
    kind = chance.randrange(8)
    if kind == 0:
        return chance.choice((*_ETHERTYPES, *_PROTOCOLS))
    if kind == 1:
        version = chance.choice(("", "", "ip ", "arp "))
        return f"{version}{end}host {chance.choice(V4)}"
    if kind == 2:
        return f"{chance.choice(('', 'ip6 '))}{end}host {chance.choice(V6)}"
    if kind == 3:
        return f"{end}net {chance.choice(NETS)}"
    transport = chance.choice(("", "", "tcp ", "udp ", "sctp "))
    if kind == 4:
        return f"{transport}{end}port {chance.choice(PORTS)}"
    if kind == 5:
        low, high = sorted(chance.choices(PORTS, k=2))
        return f"{transport}{end}portrange {low}-{high}"
    if kind == 6:
        return f"ether {end}host {chance.choice(MACS)}"
    return _relation(chance)


def _relation(chance: random.Random) -> str:
    relation = f"{chance.choice(tuple(_RELATIONS))} {chance.choice(NUMBERS)}"
    if chance.random() < LENGTHS:
        return f"len {relation}"
    if chance.random() < LENGTHS:
        return f"tcp[tcpflags] & {chance.choice(('tcp-syn', 'tcp-ack', '18'))} {relation}"
    part = chance.choice(("ether", "ip", "ip6", "tcp", "udp", "icmp"))
    size = chance.choice(("", ":1", ":2", ":4"))
    mask = chance.choice(("", "", " & 0xff", " & 1", " & 0xffffffff", " & 0xf0"))
    return f"{part}[{chance.choice((0, 2, 6, 8, 9, 12, 13, 16, 40))}{size}]{mask} {relation}"
