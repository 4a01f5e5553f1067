"""Convert captured packet data to scapy packets. Imported on demand, since scapy loads slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pypwru.scapy_home  # noqa: F401 -- before scapy

# isort: split
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import EDecimal

from pypwru.output.pcap.frames import ETHERNET, Frame

if TYPE_CHECKING:
    from scapy.packet import Packet

_SECOND = 1_000_000_000


def dissected(frame: Frame, time: int, interface: str | None) -> Packet:
    """Return the scapy packet of a frame, with the attributes that scapy's own sniffer sets.

    Args:
        frame: Ethernet frame, or IPv4 or IPv6 packet without link-layer header.
        time: of the event, ns since the epoch.
        interface: name of the packet's device; None if unknown.
    """
    kind = Ether if frame.linktype == ETHERNET else IP if frame.octets[0] >> 4 == 4 else IPv6
    packet: Packet = kind(frame.octets)
    packet.time = EDecimal(time) / _SECOND
    packet.wirelen = frame.length
    packet.sniffed_on = interface
    return packet
