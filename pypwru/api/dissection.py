"""Octets to scapy's packets; loaded only when packets are asked for, since scapy takes its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pypwru.scapy_home  # noqa: F401 -- first

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
    """The packet of a frame, with what scapy's own captures tell of one.

    Args:
        frame: Ethernet, or IPv4 or IPv6 for themselves.
        time: of the sight, ns since the epoch.
        interface: name of the device that it was on; None where it isn't known.
    """
    kind = Ether if frame.linktype == ETHERNET else IP if frame.octets[0] >> 4 == 4 else IPv6
    packet: Packet = kind(frame.octets)
    packet.time = EDecimal(time) / _SECOND
    packet.wirelen = frame.length
    packet.sniffed_on = interface
    return packet
