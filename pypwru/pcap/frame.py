"""The conversion of captured packet data to frames of link type Ethernet or raw IP.

A packet with an Ethernet header keeps it, and the VLAN tag that the kernel keeps outside the packet
data is inserted into it. Without one, IPv4 and IPv6 are written as raw IP; other protocols, and all
packets in a file of a single link type, get an Ethernet header with addresses of zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.pcap.packet_data import PacketCapture

# https://www.tcpdump.org/linktypes.html
ETHERNET, RAW = 1, 101

_MAC_ADDRESSES_SIZE = 12  # bytes of an Ethernet header before a VLAN tag
_TAG_SIZE = 4
_ZERO_MAC_ADDRESSES = bytes(_MAC_ADDRESSES_SIZE)
_IPV4, _IPV6 = 0x0800, 0x86DD
_VERSION_BY_PROTOCOL = {_IPV4: 4, _IPV6: 6}
_PROTOCOL_BY_VERSION = {version: protocol for protocol, version in _VERSION_BY_PROTOCOL.items()}


class PcapFrame(NamedTuple):
    """A frame of a capture file.

    Args:
        linktype: LINKTYPE_*.
        data: the captured bytes.
        length: bytes of the frame, including those that weren't captured.
    """

    linktype: int
    data: bytes
    length: int


def make_frame(
    captured: PacketCapture, protocol: int, snaplen: int, always_ethernet: bool = False
) -> PcapFrame:
    """Make the frame of a packet.

    Args:
        captured: packet data from layer 2 or 3 on.
        protocol: skb->protocol, EtherType in host byte order; 0 if the kernel hasn't set it yet.
        snaplen: maximum bytes of the frame, inserted headers included.
        always_ethernet: never use raw IP.
    """
    data, length = captured.data, captured.length
    if captured.layer == 2:
        linktype = ETHERNET
        if captured.vlan_tag and length >= _MAC_ADDRESSES_SIZE:
            data, length = _insert_tag(data, captured.vlan_tag), length + _TAG_SIZE
    else:
        protocol = protocol or _guess_protocol(data)
        linktype = ETHERNET if always_ethernet or not _is_ip(data, protocol) else RAW
        if linktype == ETHERNET:
            header = _ZERO_MAC_ADDRESSES + protocol.to_bytes(2, "big")
            data, length = header + data, length + len(header)
    return PcapFrame(linktype, data[:snaplen], length)


def _insert_tag(data: bytes, tag: int) -> bytes:
    if len(data) < _MAC_ADDRESSES_SIZE:
        return data
    return data[:_MAC_ADDRESSES_SIZE] + tag.to_bytes(_TAG_SIZE, "big") + data[_MAC_ADDRESSES_SIZE:]


def _ip_version(data: bytes) -> int:
    """Return the version field of an IP header; 0 without data."""
    return data[0] >> 4 if data else 0


def _guess_protocol(data: bytes) -> int:
    """Derive the EtherType from the version of the IP header; 0 if it is neither IPv4 nor IPv6.

    An outgoing IP packet has no skb->protocol yet while its headers are built.
    """
    return _PROTOCOL_BY_VERSION.get(_ip_version(data), 0)


def _is_ip(data: bytes, protocol: int) -> bool:
    """Return whether the IP version in the data agrees with ``protocol``, as raw IP requires.

    Readers of LINKTYPE_RAW have only the version field to go by.
    """
    return _VERSION_BY_PROTOCOL.get(protocol) == _ip_version(data)
