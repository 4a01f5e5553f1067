"""Captured packet data of an event, as bytes and as a scapy packet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scapy.packet import Packet

    from pypwru.pcap.frame import PcapFrame


@dataclass(frozen=True)
class PacketData:
    """Packet data captured at one event.

    Args:
        frame: the captured bytes and their link type.
        wall_ns: of the event, ns since the epoch.
        interface: name of the packet's device; None if unknown.
    """

    frame: PcapFrame
    wall_ns: int
    interface: str | None

    @cached_property
    def packet(self) -> Packet:
        """The scapy packet, made on first access."""
        from pypwru.api.scapy_packet import to_scapy

        return to_scapy(self.frame, self.wall_ns, self.interface)
