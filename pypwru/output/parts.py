"""The parts of a record, as named fields: what the columns are made of.

The reader hands each part as the bytes of the wire (``bpf/event.h``); bytes are the key under which
rendered text is kept, and they are taken apart only when the text isn't there yet.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

# struct event of bpf/event.h; what is in network order stays bytes until it is named.
PACKET = struct.Struct("<QIHH16s")
FUNCTION = struct.Struct("<QQ")
FLOW = struct.Struct("<IIIII2sBB16s16s2s2sB3x")

_U32 = (1 << 32) - 1


class Packet(NamedTuple):
    """Who is seen where.

    Args:
        skb: address of the sk_buff.
        pid: thread group of the task that was running.
        cpu: where it ran.
        kind: EVENT_* of bpf/event.h.
        comm: the task's name in the kernel.
    """

    skb: int
    pid: int
    cpu: int
    kind: int
    comm: str


class Function(NamedTuple):
    """Which function was entered.

    Args:
        address: of the probe in it, or the number of a tracepoint.
        reason: its enum skb_drop_reason argument.
    """

    address: int
    reason: int


class Flow(NamedTuple):
    """What the packet was at that moment.

    Args:
        netns: inode of its network namespace.
        mark: skb->mark.
        ifindex: skb->dev's, 0 without one.
        mtu: of its route, else of its device.
        len: skb->len.
        protocol: skb->protocol, EtherType in host order.
        l3: 4, 6, or 0 when the packet has no address that could be read.
        l4: IP protocol number.
        saddr, daddr: 16 bytes each, IPv4 in the first four.
        sport, dport: host order, 0 without one.
        tcp_flags: byte 13 of the TCP header.
    """

    netns: int
    mark: int
    ifindex: int
    mtu: int
    len: int
    protocol: int
    l3: int
    l4: int
    saddr: bytes
    daddr: bytes
    sport: int
    dport: int
    tcp_flags: int


def packet(part: bytes) -> Packet:
    """The packet part of a record."""
    skb, pid, cpu, kind, comm = PACKET.unpack(part)
    return Packet(skb, pid, cpu, kind, os.fsdecode(comm.split(b"\0", 1)[0]))


def function(part: bytes) -> Function:
    """The func part of a record."""
    address, reason = FUNCTION.unpack(part)
    # The argument is a 32-bit enum in a 64-bit register whose upper half is undefined.
    return Function(address, reason & _U32)


def flow(part: bytes) -> Flow:
    """The flow part of a record."""
    netns, mark, ifindex, mtu, length, protocol, l3, l4, *rest = FLOW.unpack(part)
    saddr, daddr, sport, dport, tcp_flags = rest
    network = int.from_bytes
    return Flow(
        netns,
        mark,
        ifindex,
        mtu,
        length,
        network(protocol, "big"),
        l3,
        l4,
        saddr,
        daddr,
        network(sport, "big"),
        network(dport, "big"),
        tcp_flags,
    )
