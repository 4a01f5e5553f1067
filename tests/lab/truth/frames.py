"""Frames for the hosts of hosts.py, built by hand: pure.

A host has two wires: at its ``up`` are GATEWAY and the world, at its ``down`` is GUEST.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import NamedTuple

GATEWAY, HOST, GUEST, OTHER_GUEST = "192.0.2.1", "192.0.2.2", "10.0.0.2", "10.0.0.3"
DOWN = "10.0.0.1"
WORLD, RESOLVER, ATTACKER, SERVICE = "198.51.100.7", "198.51.100.53", "203.0.113.66", "10.96.0.10"
GATEWAY6, HOST6, DOWN6, GUEST6 = (
    "2001:db8:1::1",
    "2001:db8:1::2",
    "2001:db8:2::1",
    "2001:db8:2::2",
)
MACS = {"gateway": 1, "up": 2, "down": 3, "guest": 4}
"""Name of an end to the last byte of its hardware address."""
_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_IP, _IP6, _ARP, _VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
_FIN, _SYN, _ACK = 1, 2, 16
_ECHO, _ECHO6 = 8, 128
_BROADCAST = b"\xff" * 6


class Frame(NamedTuple):
    """A frame that is sent to a host.

    Args:
        wire: ``up`` or ``down``.
        data: from the Ethernet header on.
    """

    wire: str
    data: bytes


def mac(name: str) -> bytes:
    return bytes([2, 0, 0, 0, 0, MACS[name]])


def _sum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _packet(source: str, to: str, protocol: int, head: bytes, sum_at: int) -> bytes:
    """Return an IP packet; the checksum of ``head`` is put at ``sum_at``."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(to).packed
    pseudo = ends + struct.pack("!II", len(head), protocol) if protocol != _ICMP else b""
    checksum = struct.pack("!H", _sum(pseudo + head))
    head = head[:sum_at] + checksum + head[sum_at + 2 :]
    if len(ends) == 32:
        return struct.pack("!IHBB", 6 << 28, len(head), protocol, 64) + ends + head
    fixed = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(head), 1, 0, 64, protocol)
    return fixed + struct.pack("!H", _sum(fixed + b"\0\0" + ends)) + ends + head


def udp(source: str, to: str, port: int, source_port: int = 4000) -> bytes:
    head = struct.pack("!HHHH", source_port, port, 16, 0) + b"datagram"
    return _packet(source, to, _UDP, head, 6)


def tcp(source: str, to: str, port: int, flags: int = _SYN, source_port: int = 40000) -> bytes:
    head = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 0x60, flags, 8192, 0, 0)
    return _packet(source, to, _TCP, head + bytes((2, 4, 5, 180)), 16)


def echo(source: str, to: str) -> bytes:
    is_6 = ":" in to
    head = struct.pack("!BBHHH", _ECHO6 if is_6 else _ECHO, 0, 0, 7, 1)
    return _packet(source, to, _ICMP6 if is_6 else _ICMP, head, 2)


def _arp(operation: int, sender: str, source: str, target_address: str) -> bytes:
    ends = (ipaddress.ip_address(each).packed for each in (source, target_address))
    own, other = ends
    head = struct.pack("!HHBBH", 1, _IP, 6, 4, operation)
    return head + mac(sender) + own + bytes(6) + other + bytes(18)


def _frame(to: bytes, source: str, packet: bytes, vlan: int = 0) -> bytes:
    kind = _ARP if packet[:2] == b"\0\1" else (_IP6 if packet[0] >> 4 == 6 else _IP)
    tag = struct.pack("!HH", _VLAN, vlan) if vlan else b""
    return to + mac(source) + tag + struct.pack("!H", kind) + packet


def frames() -> list[Frame]:
    """Return all frames that a host gets, in this order."""
    world = (
        tcp(WORLD, HOST, 22),
        tcp(ATTACKER, HOST, 22),
        tcp(WORLD, HOST, 80),
        tcp(WORLD, HOST, 443),
        tcp(WORLD, HOST, 8080),
        tcp(WORLD, HOST, 30080),
        tcp(WORLD, HOST, 80, _FIN | _SYN, 40001),
        tcp(WORLD, HOST, 25, _ACK, 40002),
        tcp(WORLD, GUEST, 80),
        tcp(WORLD, GUEST, 443),
        tcp(ATTACKER, GUEST, 80),
        udp(WORLD, HOST, 53),
        udp(GATEWAY, HOST, 53),
        udp(GATEWAY, HOST, 123),
        udp(ATTACKER, HOST, 123),
        udp(WORLD, GUEST, 53),
        echo(WORLD, HOST),
        echo(GATEWAY, HOST),
        echo(WORLD, GUEST),
        tcp("2001:db8:1::7", HOST6, 22),
        udp("2001:db8:1::7", HOST6, 53),
        echo(GATEWAY6, HOST6),
        udp("2001:db8:1::7", GUEST6, 53),
        tcp("2001:db8:1::66", HOST6, 22),
    )
    behind = (
        udp(GUEST, RESOLVER, 53),
        udp(GUEST, DOWN, 53),
        udp(GUEST, SERVICE, 53),
        tcp(GUEST, SERVICE, 443),
        tcp(GUEST, SERVICE, 80),
        tcp(GUEST, WORLD, 443),
        tcp(GUEST, WORLD, 25),
        tcp(GUEST, HOST, 22),
        echo(GUEST, WORLD),
        udp(GUEST6, GATEWAY6, 53),
        echo(GUEST6, GATEWAY6),
    )
    answers = (udp(RESOLVER, HOST, 4000, 53), udp(RESOLVER, GUEST, 4000, 53))
    found = [Frame("up", _frame(mac("up"), "gateway", each)) for each in world]
    found += [Frame("down", _frame(mac("down"), "guest", each)) for each in behind]
    found += [Frame("up", _frame(mac("up"), "gateway", each)) for each in answers]
    return [*found, *_links()]


def _links() -> Sequence[Frame]:
    """Return frames about links: broadcasts, ARP, a VLAN, and frames across a bridge."""
    to_host = _arp(1, "gateway", GATEWAY, HOST), _arp(1, "gateway", ATTACKER, HOST)
    hello = udp("0.0.0.0", "255.255.255.255", 67, 68)
    across = tcp(WORLD, GUEST, 80, _SYN, 40010), udp(WORLD, GUEST, 53, 4010), echo(ATTACKER, GUEST)
    return [
        *(Frame("up", _frame(_BROADCAST, "gateway", each)) for each in (*to_host, hello)),
        Frame("down", _frame(_BROADCAST, "guest", _arp(1, "guest", GUEST, DOWN))),
        Frame("up", _frame(mac("up"), "gateway", udp(GATEWAY, HOST, 53), 10)),
        Frame("up", _frame(mac("guest"), "gateway", udp(GATEWAY, GUEST, 53), 10)),
        *(Frame("up", _frame(mac("guest"), "gateway", each)) for each in across),
        Frame("down", _frame(mac("gateway"), "guest", echo(GUEST, WORLD))),
        Frame("down", _frame(mac("gateway"), "guest", echo(GUEST6, GATEWAY6))),
    ]
