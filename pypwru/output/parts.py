"""The parts of a record, as named fields: what the columns are made of.

The reader hands each part as the bytes of the wire (``bpf/event.h``); bytes are the key under which
rendered text is kept, and they are taken apart only when the text isn't there yet.
"""

from __future__ import annotations

import os
import struct
from enum import Enum
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.events.drop_flag import FLAG_SIZE, is_drop_event
from pypwru.output.nft_part import nft

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# struct event of bpf/event.h; what is in network order stays bytes until it is named.
PACKET = struct.Struct("<QIHH16sQ")
FUNCTION = struct.Struct("<QQ")
FLOW = struct.Struct("<IIQII16sI2sBB16s16s2s2sBBBx")

# struct part_* of the same file; nft_part.py has part_nft.
CALLER = struct.Struct("<8Q")
CB = struct.Struct("<5I4x")
TUNNEL = struct.Struct("<16s16s2s2sBBBx")
METADATA = struct.Struct("<4Q")
MAP = struct.Struct("<III4x16s256s256s")
CT = struct.Struct("<IIBBB3xH2s2s2s2s16s16s16s16s")
IDENTITY = struct.Struct("<Q")
STACK = struct.Struct("<50Q")

_U32 = (1 << 32) - 1
KIND = slice(14, 16)
"""Where event.kind is in the packet part."""


class Part(Enum):
    """Parts of a record; those of the tail have their names of ``events.wire``, but for LOCATION,
    which is made of two.
    """

    PACKET = "packet"
    TIME = "time"
    FLOW = "flow"
    FUNCTION = "function"
    CALLER = "caller"
    LOCATION = "location"
    CB = "cb"
    TUNNEL = "tunnel"
    METADATA = "metadata"
    MAP = "map"
    NFT = "nft"
    NFT_AT = "nft_at"
    CT = "ct"
    BYTES = "bytes"
    IDENTITY = "identity"
    STACK = "stack"
    SKB = "skb"
    SHINFO = "shinfo"


class Packet(NamedTuple):
    """Who is seen where.

    Args:
        skb: address of the sk_buff.
        pid: thread group of the task that was running.
        cpu: where it ran.
        kind: EVENT_* of bpf/event.h.
        comm: the task's name in the kernel.
        start_stack: where the stack of its program begins; without one (a kernel thread, or at the
            process's end) bit 63 and when the process began, ns of CLOCK_BOOTTIME.
    """

    skb: int
    pid: int
    cpu: int
    kind: int
    comm: str
    start_stack: int = 0


class Function(NamedTuple):
    """Which function was entered.

    Args:
        address: of the probe in it, or the number of a tracepoint or BPF program.
        reason: its enum skb_drop_reason argument.
        kind: EVENT_* of bpf/event.h.
    """

    address: int
    reason: int
    kind: int


class Flow(NamedTuple):
    """What the packet was at that moment.

    Args:
        netns: inode of its network namespace.
        mark: skb->mark.
        netns_cookie: the namespace's, which no other ever gets; 0 where it isn't known.
        ifindex: skb->dev's, 0 without one.
        mtu: of its route, else of its device.
        ifname: the device's name at that moment; empty without one.
        len: skb->len.
        protocol: skb->protocol, EtherType in host order.
        l3: 4, 6, or 0 when the packet has no address that could be read.
        l4: IP protocol number.
        saddr, daddr: 16 bytes each, IPv4 in the first four.
        sport, dport: host order, 0 without one.
        tcp_flags: byte 13 of the TCP header.
        is_message: 1 for a message of a Unix, netlink or PF_KEY socket; this and the next only of
            runs that follow packets to their ends.
        is_shared: 1 where there is more than one reference to it.
    """

    netns: int
    mark: int
    netns_cookie: int
    ifindex: int
    mtu: int
    ifname: str
    len: int
    protocol: int
    l3: int
    l4: int
    saddr: bytes
    daddr: bytes
    sport: int
    dport: int
    tcp_flags: int
    is_message: int
    is_shared: int


class Tunnel(NamedTuple):
    """The packet inside a tunnel's, as in Flow."""

    saddr: bytes
    daddr: bytes
    sport: int
    dport: int
    l3: int
    l4: int
    tcp_flags: int


class Metadata(NamedTuple):
    """What --output-skb-metadata or, of an XDP program, --output-xdp-metadata asked for.

    Args:
        values: one for each member, as wide as a register; 0 behind the last.
        kind: EVENT_* of bpf/event.h.
    """

    values: tuple[int, ...]
    kind: int


class Map(NamedTuple):
    """What a function on a BPF map was called with.

    Args:
        id: the map's, 0 in a record of anything else.
        key_size, value_size: bytes of them in the map.
        name: the map's.
        key, value: their first 256 bytes at most.
    """

    id: int
    key_size: int
    value_size: int
    name: str
    key: bytes
    value: bytes


def packet(part: bytes) -> Packet:
    """The packet part of a record."""
    skb, pid, cpu, kind, comm, stack = PACKET.unpack(part)
    return Packet(skb, pid, cpu, kind, text(comm), stack)


def _kind(part: bytes, size: int) -> int:
    """The kind behind a part, where a run has several; 0, that of a function, where not."""
    return int.from_bytes(part[size:], "little")


def function(part: bytes) -> Function:
    """The func part of a record, and the record's kind behind it."""
    address, reason = FUNCTION.unpack_from(part)
    # The argument is a 32-bit enum in a 64-bit register whose upper half is undefined.
    return Function(address, reason & _U32, _kind(part, FUNCTION.size))


def flow(part: bytes) -> Flow:
    """The flow part of a record."""
    netns, mark, netns_cookie, ifindex, mtu, ifname, length, *rest = FLOW.unpack(part)
    protocol, l3, l4, saddr, daddr, sport, dport, tcp_flags, is_message, is_shared = rest
    network = int.from_bytes
    return Flow(
        netns,
        mark,
        netns_cookie,
        ifindex,
        mtu,
        text(ifname),
        length,
        network(protocol, "big"),
        l3,
        l4,
        saddr,
        daddr,
        network(sport, "big"),
        network(dport, "big"),
        tcp_flags,
        is_message,
        is_shared,
    )


def tunnel(part: bytes) -> Tunnel:
    """``struct part_tunnel``."""
    saddr, daddr, sport, dport, l3, l4, tcp_flags = TUNNEL.unpack(part)
    network = int.from_bytes
    return Tunnel(saddr, daddr, network(sport, "big"), network(dport, "big"), l3, l4, tcp_flags)


def metadata(part: bytes) -> Metadata:
    """``struct part_metadata``, and the record's kind behind it."""
    return Metadata(METADATA.unpack_from(part), _kind(part, METADATA.size))


def bpf_map(part: bytes) -> Map:
    """``struct part_map``."""
    number, key_size, value_size, name, key, value = MAP.unpack(part)
    return Map(number, key_size, value_size, text(name), key[:key_size], value[:value_size])


def frames(form: struct.Struct, part: bytes) -> tuple[int, ...]:
    """Return addresses, innermost first; what is behind the first 0 is nothing."""
    return tuple(takewhile(bool, form.unpack(part)))


def location(part: bytes) -> tuple[int, ...]:
    """From where a packet is dropped, as CALLER; nothing where it isn't.

    Args:
        part: the last of the flow part, and behind it ``struct part_caller``.
    """
    return frames(CALLER, part[FLAG_SIZE:]) if is_drop_event(part[:FLAG_SIZE]) else ()


def text(part: bytes) -> str:
    """What stands before the first NUL; it need not be UTF-8."""
    return os.fsdecode(part.split(b"\0", 1)[0])


READERS: Mapping[Part, Callable[[bytes], Any]] = {
    Part.PACKET: packet,
    Part.FLOW: flow,
    Part.FUNCTION: function,
    Part.CALLER: partial(frames, CALLER),
    Part.LOCATION: location,
    Part.CB: CB.unpack,
    Part.TUNNEL: tunnel,
    Part.METADATA: metadata,
    Part.MAP: bpf_map,
    Part.NFT: nft,
    Part.CT: CT.unpack,
    Part.IDENTITY: IDENTITY.unpack,
    Part.STACK: partial(frames, STACK),
    Part.SKB: text,
    Part.SHINFO: text,
}
"""What takes the bytes of a part apart."""
