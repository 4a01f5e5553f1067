"""The conversion of captured packet data to frames of link type Ethernet or raw IP.

A packet with an Ethernet header keeps it, and the VLAN tag that the kernel keeps outside the packet
data is inserted into it. Without one, IPv4 and IPv6 are written as raw IP; other protocols, and all
packets in a file of a single link type, get an Ethernet header with addresses of zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.events.packets import Captured

# https://www.tcpdump.org/linktypes.html
ETHERNET, RAW = 1, 101

_ADDRESSES = 12  # bytes of an Ethernet header before a VLAN tag
_TAG = 4
_NO_ADDRESSES = bytes(_ADDRESSES)
_IPV4, _IPV6 = 0x0800, 0x86DD
_VERSIONS = {_IPV4: 4, _IPV6: 6}
_BY_VERSION = {version: protocol for protocol, version in _VERSIONS.items()}


class Frame(NamedTuple):
    """A frame of a capture file.

    Args:
        linktype: LINKTYPE_*.
        octets: the captured bytes.
        length: bytes of the frame, including those that weren't captured.
    """

    linktype: int
    octets: bytes
    length: int


def frame(captured: Captured, protocol: int, snaplen: int, always_ethernet: bool = False) -> Frame:
    """Make the frame of a packet.

    Args:
        captured: packet data from layer 2 or 3 on.
        protocol: skb->protocol, EtherType in host byte order; 0 if the kernel hasn't set it yet.
        snaplen: maximum bytes of the frame, inserted headers included.
        always_ethernet: never use raw IP.
    """
    octets, length = captured.octets, captured.length
    if captured.layer == 2:
        linktype = ETHERNET
        if captured.tag and length >= _ADDRESSES:
            octets, length = _tagged(octets, captured.tag), length + _TAG
    else:
        protocol = protocol or _protocol_of(octets)
        linktype = ETHERNET if always_ethernet or not _is_ip(octets, protocol) else RAW
        if linktype == ETHERNET:
            header = _NO_ADDRESSES + protocol.to_bytes(2, "big")
            octets, length = header + octets, length + len(header)
    return Frame(linktype, octets[:snaplen], length)


def _tagged(octets: bytes, tag: int) -> bytes:
    if len(octets) < _ADDRESSES:
        return octets
    return octets[:_ADDRESSES] + tag.to_bytes(_TAG, "big") + octets[_ADDRESSES:]


def _version(octets: bytes) -> int:
    """Return the version field of an IP header; 0 without data."""
    return octets[0] >> 4 if octets else 0


def _protocol_of(octets: bytes) -> int:
    """Derive the EtherType from the version of the IP header; 0 if it is neither IPv4 nor IPv6.

    An outgoing IP packet has no skb->protocol yet while its headers are built.
    """
    return _BY_VERSION.get(_version(octets), 0)


def _is_ip(octets: bytes, protocol: int) -> bool:
    """Return whether the IP version in the data agrees with ``protocol``, as raw IP requires.

    Readers of LINKTYPE_RAW have only the version field to go by.
    """
    return _VERSIONS.get(protocol) == _version(octets)
