"""The 5-tuple of a packet, as values and in pwru's notation."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.wire.fields import FlowFields, TunnelFields

# IANA protocol numbers that pwru has a name for; of others the name is empty.
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
TCP = 6
# Byte 13 of the TCP header, lowest bit first (RFC 9293 3.1).
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


class FiveTuple(NamedTuple):
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
        return PROTOCOL_NAMES.get(self.l4, "")


def format_address(version: int, data: bytes) -> str:
    """Format an address as Go's net.IP does: RFC 5952, but an IPv4-mapped address as IPv4.

    Args:
        version: 4 or 6; of others the result is empty.
        data: 16 bytes in network byte order, IPv4 in the first four.
    """
    if version == 4:
        return ".".join(map(str, data[:4]))
    if version != 6:
        return ""
    mapped = ipaddress.IPv6Address(data)
    return str(mapped.ipv4_mapped or mapped.compressed)


def tcp_flag_names(bits: int) -> str:
    """Return the names of the bits of TCP header byte 13: ``SYN|ACK`` for 0x12."""
    return "|".join(name for bit, name in enumerate(TCP_FLAGS) if bits >> bit & 1)


def tuple_of(flow: FlowFields | TunnelFields) -> FiveTuple:
    """Return the 5-tuple of ``flow``."""
    return FiveTuple(
        format_address(flow.l3, flow.saddr),
        format_address(flow.l3, flow.daddr),
        flow.sport,
        flow.dport,
        flow.l4,
        tcp_flag_names(flow.tcp_flags) if flow.l4 == TCP else "",
        flow.l3,
    )


def _bracketed_addresses(five_tuple: FiveTuple) -> tuple[str, str]:
    """Return source and destination address as pwru prints them: IPv6 in brackets."""
    return (
        (f"[{five_tuple.saddr}]", f"[{five_tuple.daddr}]")
        if five_tuple.l3 == 6
        else (five_tuple.saddr, five_tuple.daddr)
    )


def text(five_tuple: FiveTuple, flags: bool) -> str:
    """Return pwru's notation: ``127.0.0.1:9->127.0.0.1:42390(tcp:RST|ACK)``.

    Args:
        five_tuple: the 5-tuple.
        flags: include TCP flags.
    """
    source, destination = _bracketed_addresses(five_tuple)
    protocol = five_tuple.protocol
    if flags and five_tuple.flags:
        protocol = f"{protocol}:{five_tuple.flags}"
    return f"{source}:{five_tuple.sport}->{destination}:{five_tuple.dport}({protocol})"


def members(five_tuple: FiveTuple, flags: bool) -> dict[str, object]:
    """Return the JSON object; empty without IP header, as in pwru.

    Args:
        five_tuple: the 5-tuple.
        flags: include TCP flags.
    """
    if not five_tuple.saddr:
        return {}
    source, destination = _bracketed_addresses(five_tuple)
    found = {
        "saddr": source,
        "daddr": destination,
        "sport": five_tuple.sport,
        "dport": five_tuple.dport,
        "proto": five_tuple.l4,
    }
    return found | ({"flags": five_tuple.flags} if flags and five_tuple.flags else {})
