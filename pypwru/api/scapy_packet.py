"""Convert captured packet data to scapy packets. Imported on demand, since scapy loads slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pypwru.scapy_home  # noqa: F401 -- before scapy

# isort: split
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import EDecimal

from pypwru.pcap.frame import ETHERNET, PcapFrame

if TYPE_CHECKING:
    from scapy.packet import Packet

_NS_PER_SECOND = 1_000_000_000


def to_scapy(frame: PcapFrame, wall_ns: int, interface: str | None) -> Packet:
    """Return the scapy packet of a frame, with the attributes that scapy's own sniffer sets.

    Args:
        frame: Ethernet frame, or IPv4 or IPv6 packet without link-layer header.
        wall_ns: of the event, ns since the epoch.
        interface: name of the packet's device; None if unknown.
    """
    layer = Ether if frame.linktype == ETHERNET else IP if frame.data[0] >> 4 == 4 else IPv6
    packet: Packet = layer(frame.data)
    packet.time = EDecimal(wall_ns) / _NS_PER_SECOND
    packet.wirelen = frame.length
    packet.sniffed_on = interface
    return packet
