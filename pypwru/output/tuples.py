"""Addresses, ports and protocol of a packet, as values and in pwru's notation."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.output.parts import Flow, Tunnel

# IANA protocol numbers that pwru has a word for; the others stay empty.
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
TCP = 6
# Byte 13 of the TCP header, lowest bit first (RFC 9293 3.1).
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


class Tuple(NamedTuple):
    """Both ends of a packet.

    Args:
        saddr, daddr: as text, without brackets; empty when not known.
        sport, dport: 0 without one.
        l4: IP protocol number.
        flags: TCP flags joined with ``|``; empty without any.
        l3: 4, 6 or 0.
    """

    saddr: str
    daddr: str
    sport: int
    dport: int
    l4: int
    flags: str
    l3: int

    @property
    def protocol(self) -> str:
        """Word for ``l4``; empty where pwru has none."""
        return PROTOCOLS.get(self.l4, "")


def address(version: int, octets: bytes) -> str:
    """``octets`` as Go's net.IP prints them: RFC 5952, but an IPv4-mapped address as IPv4."""
    if version == 4:
        return ".".join(map(str, octets[:4]))
    if version != 6:
        return ""
    mapped = ipaddress.IPv6Address(octets)
    return str(mapped.ipv4_mapped or mapped.compressed)


def tcp_flags(bits: int) -> str:
    """``SYN|ACK`` for 0x12."""
    return "|".join(name for bit, name in enumerate(TCP_FLAGS) if bits >> bit & 1)


def tuple_of(flow: Flow | Tunnel) -> Tuple:
    """The ends of ``flow``."""
    return Tuple(
        address(flow.l3, flow.saddr),
        address(flow.l3, flow.daddr),
        flow.sport,
        flow.dport,
        flow.l4,
        tcp_flags(flow.tcp_flags) if flow.l4 == TCP else "",
        flow.l3,
    )


def _addresses(ends: Tuple) -> tuple[str, str]:
    """Both as pwru shows them: IPv6 in brackets."""
    return (f"[{ends.saddr}]", f"[{ends.daddr}]") if ends.l3 == 6 else (ends.saddr, ends.daddr)


def text(ends: Tuple, flags: bool) -> str:
    """``127.0.0.1:9->127.0.0.1:42390(tcp:RST|ACK)``; TCP flags only when ``flags``."""
    source, destination = _addresses(ends)
    word = ends.protocol
    if flags and ends.flags:
        word = f"{word}:{ends.flags}"
    return f"{source}:{ends.sport}->{destination}:{ends.dport}({word})"


def members(ends: Tuple, flags: bool) -> dict[str, object]:
    """The same as an object of JSON; empty when there is no IP header, as in pwru."""
    if not ends.saddr:
        return {}
    source, destination = _addresses(ends)
    found = {
        "saddr": source,
        "daddr": destination,
        "sport": ends.sport,
        "dport": ends.dport,
        "proto": ends.l4,
    }
    return found | ({"flags": ends.flags} if flags and ends.flags else {})
