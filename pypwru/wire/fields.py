"""The parts of a record, decoded to named fields: the input of columns.

The ring reader leaves each part as the bytes of ``bpf/event.h``. These bytes are the cache key of
the rendered text, so a part is decoded only on a cache miss.
"""

from __future__ import annotations

import os
import struct
from enum import Enum
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from pypwru.wire.drop_flag import FLAG_SIZE, is_drop_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pypwru.wire.layout import RecordLayout

# The parts of struct event of bpf/event.h. Members in network byte order are unpacked as bytes.
PACKET = struct.Struct("<QIHH16sQ")
FUNCTION = struct.Struct("<QQ")
FLOW = struct.Struct("<IIQII16sI2sBB16s16s2s2sBBBx")

# struct part_* of the same file; part_nft is in nft/record.py.
CALLER = struct.Struct("<8Q")
CB = struct.Struct("<5I4x")
TUNNEL = struct.Struct("<16s16s2s2sBBBx")
METADATA = struct.Struct("<4Q")
MAP = struct.Struct("<III4x16s256s256s")
CT = struct.Struct("<IIBBB3xH2s2s2s2s16s16s16s16s")
PACKET_ID = struct.Struct("<Q")
STACK = struct.Struct("<50Q")

_U32 = (1 << 32) - 1
KIND_SLICE = slice(14, 16)
"""Position of event.kind in the packet part."""


class Part(Enum):
    """The parts of a record.

    Parts of the tail have the names of ``wire.layout``. LOCATION is not on the wire: it is composed
    of the drop flag of FLOW and CALLER.
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
    NFT_TIME = "nft_time"
    CT = "ct"
    BYTES = "bytes"
    PACKET_ID = "packet_id"
    STACK = "stack"
    SKB = "skb"
    SHINFO = "shinfo"


_EVENT_PARTS = frozenset((Part.PACKET, Part.TIME, Part.FLOW, Part.FUNCTION))


def has_part(layout: RecordLayout, part: Part) -> bool:
    """Return whether records of ``layout`` have ``part``, or what it is composed of."""
    behind_event = Part.CALLER if part is Part.LOCATION else part
    return part in _EVENT_PARTS or behind_event.value in layout.parts


class PacketFields(NamedTuple):
    """The packet, and the task and CPU on which the event occurred.

    Args:
        skb: ``struct sk_buff *``; of an XDP event xdp_buff.data_hard_start.
        pid: tgid of the current task; in softirq an unrelated one that was interrupted.
        cpu: number of the CPU.
        kind: EVENT_* of bpf/event.h.
        comm: task_struct.comm.
        start_stack: mm_struct.start_stack; for a task without memory of its own (a kernel thread,
            or an exiting process) bit 63 set, and below it the start time in ns of CLOCK_BOOTTIME.
    """

    skb: int
    pid: int
    cpu: int
    kind: int
    comm: str
    start_stack: int = 0


class FunctionFields(NamedTuple):
    """The target that was hit.

    Args:
        address: of the probe in the function, or the number of a tracepoint or BPF program.
        reason: the function's enum skb_drop_reason argument; 0 if it has none.
        kind: EVENT_* of bpf/event.h.
    """

    address: int
    reason: int
    kind: int


class FlowFields(NamedTuple):
    """The headers, device and namespace of the packet at the time of the event.

    Args:
        netns: inode of its network namespace.
        mark: skb->mark.
        netns_cookie: of the namespace; unlike the inode it is never reused. 0: unknown.
        ifindex: of skb->dev; 0 without a device.
        mtu: of its route, else of its device.
        ifname: name of the device at that time; empty without a device.
        len: skb->len, bytes.
        protocol: skb->protocol, EtherType in host byte order.
        l3: 4, 6, or 0 if no IP header could be read.
        l4: IP protocol number.
        saddr: source address, 16 bytes in network byte order, IPv4 in the first four.
        daddr: destination address, likewise.
        sport: source port in host byte order; 0 if there is none.
        dport: destination port, likewise.
        tcp_flags: byte 13 of the TCP header.
        is_message: 1 for a message of a Unix, netlink or PF_KEY socket. This and the next are set
            only in runs that need skb free events.
        is_shared: 1 if there is more than one reference to the sk_buff.
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


class TunnelFields(NamedTuple):
    """The headers of the packet inside a tunnel; members as in Flow."""

    saddr: bytes
    daddr: bytes
    sport: int
    dport: int
    l3: int
    l4: int
    tcp_flags: int


class MetadataFields(NamedTuple):
    """The values of --output-skb-metadata or, in an XDP event, of --output-xdp-metadata.

    Args:
        values: u64 for each member, in the order of the option; 0 after the last.
        kind: EVENT_* of bpf/event.h.
    """

    values: tuple[int, ...]
    kind: int


class MapCall(NamedTuple):
    """The arguments of a call on a BPF map.

    Args:
        id: of the map; 0 in records of other kinds.
        key_size: bytes of a key.
        value_size: bytes of a value.
        name: of the map.
        key: at most its first 256 bytes.
        value: at most its first 256 bytes.
    """

    id: int
    key_size: int
    value_size: int
    name: str
    key: bytes
    value: bytes


def decode_packet(part: bytes) -> PacketFields:
    """Decode the packet part of ``struct event``."""
    skb, pid, cpu, kind, comm, stack = PACKET.unpack(part)
    return PacketFields(skb, pid, cpu, kind, decode_text(comm), stack)


def _appended_kind(part: bytes, size: int) -> int:
    """Return the kind appended to a part of ``size`` bytes; 0 (EVENT_FUNCTION) if there is none."""
    return int.from_bytes(part[size:], "little")


def decode_function(part: bytes) -> FunctionFields:
    """Decode the func part of ``struct event``, with the record's kind appended or not."""
    address, reason = FUNCTION.unpack_from(part)
    # The argument is a 32-bit enum in a 64-bit register, whose upper half is undefined.
    return FunctionFields(address, reason & _U32, _appended_kind(part, FUNCTION.size))


def decode_flow(part: bytes) -> FlowFields:
    """Decode the flow part of ``struct event``."""
    netns, mark, netns_cookie, ifindex, mtu, ifname, length, *rest = FLOW.unpack(part)
    protocol, l3, l4, saddr, daddr, sport, dport, tcp_flags, is_message, is_shared = rest
    from_bytes = int.from_bytes
    return FlowFields(
        netns,
        mark,
        netns_cookie,
        ifindex,
        mtu,
        decode_text(ifname),
        length,
        from_bytes(protocol, "big"),
        l3,
        l4,
        saddr,
        daddr,
        from_bytes(sport, "big"),
        from_bytes(dport, "big"),
        tcp_flags,
        is_message,
        is_shared,
    )


def decode_tunnel(part: bytes) -> TunnelFields:
    """Decode ``struct part_tunnel``."""
    saddr, daddr, sport, dport, l3, l4, tcp_flags = TUNNEL.unpack(part)
    from_bytes = int.from_bytes
    return TunnelFields(
        saddr, daddr, from_bytes(sport, "big"), from_bytes(dport, "big"), l3, l4, tcp_flags
    )


def decode_metadata(part: bytes) -> MetadataFields:
    """Decode ``struct part_metadata``, with the record's kind appended or not."""
    return MetadataFields(METADATA.unpack_from(part), _appended_kind(part, METADATA.size))


def decode_map_call(part: bytes) -> MapCall:
    """Decode ``struct part_map``."""
    number, key_size, value_size, name, key, value = MAP.unpack(part)
    return MapCall(
        number, key_size, value_size, decode_text(name), key[:key_size], value[:value_size]
    )


def decode_frames(layout: struct.Struct, part: bytes) -> tuple[int, ...]:
    """Decode return addresses, innermost first, up to the first 0."""
    return tuple(takewhile(bool, layout.unpack(part)))


def decode_location(part: bytes) -> tuple[int, ...]:
    """Decode the call chain of a drop, innermost first; empty for an event that drops nothing.

    Args:
        part: the drop flag (the last bytes of the flow part), then ``struct part_caller``.
    """
    return decode_frames(CALLER, part[FLAG_SIZE:]) if is_drop_event(part[:FLAG_SIZE]) else ()


def decode_text(part: bytes) -> str:
    """Decode the text before the first NUL; bytes that aren't UTF-8 become surrogates (PEP 383)."""
    return os.fsdecode(part.split(b"\0", 1)[0])


DECODERS: Mapping[Part, Callable[[bytes], Any]] = {
    Part.PACKET: decode_packet,
    Part.FLOW: decode_flow,
    Part.FUNCTION: decode_function,
    Part.CALLER: partial(decode_frames, CALLER),
    Part.LOCATION: decode_location,
    Part.CB: CB.unpack,
    Part.TUNNEL: decode_tunnel,
    Part.METADATA: decode_metadata,
    Part.MAP: decode_map_call,
    Part.CT: CT.unpack,
    Part.PACKET_ID: PACKET_ID.unpack,
    Part.STACK: partial(decode_frames, STACK),
    Part.SKB: decode_text,
    Part.SHINFO: decode_text,
}
"""Decoder of each part but NFT, whose decoder (``split.DECODERS``) also takes the rule's text."""
