"""The bytes of a packet, and scapy's view of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scapy.packet import Packet

    from pypwru.output.pcap.frames import Frame


@dataclass(frozen=True)
class Seen:
    """What the kernel held of a packet at one sight.

    Args:
        frame: the packet.
        time: of the sight, ns since the epoch.
        interface: name of the device that it was on; None where it isn't known.
    """

    frame: Frame
    time: int
    interface: str | None

    @cached_property
    def packet(self) -> Packet:
        """The packet, taken apart when it is first asked for."""
        from pypwru.api.dissection import dissected

        return dissected(self.frame, self.time, self.interface)
