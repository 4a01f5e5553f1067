"""From the bytes of a packet to a frame of one of two link types.

Where there is an Ethernet header the frame begins with it, and with the tag that the kernel keeps
beside the packet in its place. Where there is none, IPv4 and IPv6 stand for themselves; anything
else, and everything in a file of one link type, gets a header whose addresses are zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.events.packets import Captured

# https://www.tcpdump.org/linktypes.html
ETHERNET, RAW = 1, 101

_ADDRESSES = 12  # octets of an Ethernet header, behind which a tag stands
_TAG = 4
_NO_ADDRESSES = bytes(_ADDRESSES)
_IPV4, _IPV6 = 0x0800, 0x86DD
_VERSIONS = {_IPV4: 4, _IPV6: 6}
_BY_VERSION = {version: protocol for protocol, version in _VERSIONS.items()}


class Frame(NamedTuple):
    """As it is written.

    Args:
        linktype: LINKTYPE_*.
        octets: that are there.
        length: with those that are not.
    """

    linktype: int
    octets: bytes
    length: int


def frame(captured: Captured, protocol: int, snaplen: int, always_ethernet: bool = False) -> Frame:
    """The frame of a packet.

    Args:
        captured: of a layer, 2 or 3.
        protocol: skb->protocol, EtherType in host order; 0 where the kernel does not say yet.
        snaplen: octets at most, those put in among them.
        always_ethernet: whether all frames must be of that link type.
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
    """What an IP header says that it is."""
    return octets[0] >> 4 if octets else 0


def _protocol_of(octets: bytes) -> int:
    """That of a packet which IP makes, and of which it has not told the protocol yet."""
    return _BY_VERSION.get(_version(octets), 0)


def _is_ip(octets: bytes, protocol: int) -> bool:
    """Whether a reader that goes by the version alone finds what the kernel says that it is."""
    return _VERSIONS.get(protocol) == _version(octets)
