"""The 5-tuple of a packet, as values and in pwru's notation."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.output.parts import Flow, Tunnel

# IANA protocol numbers that pwru has a name for; of others the name is empty.
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
TCP = 6
# Byte 13 of the TCP header, lowest bit first (RFC 9293 3.1).
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


class Tuple(NamedTuple):
    """The 5-tuple of a packet, and its TCP flags.

    Args:
        saddr: source address as text, without brackets; empty if unknown.
        daddr: destination address, likewise.
        sport: source port; 0 if there is none.
        dport: destination port, likewise.
        l4: IP protocol number.
        flags: names of TCP flags joined with ``|``; empty if there are none.
        l3: 4, 6, or 0 without IP header.
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
        """The name of ``l4``; empty if pwru has none."""
        return PROTOCOLS.get(self.l4, "")


def address(version: int, octets: bytes) -> str:
    """Format an address as Go's net.IP does: RFC 5952, but an IPv4-mapped address as IPv4.

    Args:
        version: 4 or 6; of others the result is empty.
        octets: 16 bytes in network byte order, IPv4 in the first four.
    """
    if version == 4:
        return ".".join(map(str, octets[:4]))
    if version != 6:
        return ""
    mapped = ipaddress.IPv6Address(octets)
    return str(mapped.ipv4_mapped or mapped.compressed)


def tcp_flags(bits: int) -> str:
    """Return the names of the bits of TCP header byte 13: ``SYN|ACK`` for 0x12."""
    return "|".join(name for bit, name in enumerate(TCP_FLAGS) if bits >> bit & 1)


def tuple_of(flow: Flow | Tunnel) -> Tuple:
    """Return the 5-tuple of ``flow``."""
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
    """Return source and destination address as pwru prints them: IPv6 in brackets."""
    return (f"[{ends.saddr}]", f"[{ends.daddr}]") if ends.l3 == 6 else (ends.saddr, ends.daddr)


def text(ends: Tuple, flags: bool) -> str:
    """Return pwru's notation: ``127.0.0.1:9->127.0.0.1:42390(tcp:RST|ACK)``.

    Args:
        ends: the 5-tuple.
        flags: include TCP flags.
    """
    source, destination = _addresses(ends)
    word = ends.protocol
    if flags and ends.flags:
        word = f"{word}:{ends.flags}"
    return f"{source}:{ends.sport}->{destination}:{ends.dport}({word})"


def members(ends: Tuple, flags: bool) -> dict[str, object]:
    """Return the JSON object; empty without IP header, as in pwru.

    Args:
        ends: the 5-tuple.
        flags: include TCP flags.
    """
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
