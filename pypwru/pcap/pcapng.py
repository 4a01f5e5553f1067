"""The pcapng format, with comments, interfaces and statistics.

A file is one section: Section Header Block, for each interface an Interface Description Block
before its first packet, Enhanced Packet Blocks, and finally an Interface Statistics Block for each
interface. Fields for which the format has no option are in the comment of the packet. The source
of the format is in ``blocks``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pypwru.pcap.blocks import (
    MAX_PACKET_OVERHEAD,
    STATISTICS_SIZE,
    Counters,
    enhanced_packet,
    interface_description,
    interface_statistics,
    section_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.pcap.packet import BlockBuffer, DescribeInterface, Device, PcapPacket


class RunInfo(NamedTuple):
    """Description of the run, for the headers of its files.

    Args:
        hardware: machine type, as of uname(2).
        system: name, release and version of the kernel.
        application: name and version of pypwru.
        command: the command line as typed.
        filter: libpcap expression; empty for none.
        snaplen: maximum bytes of a packet.
    """

    hardware: str
    system: str
    application: str
    command: str
    filter: str
    snaplen: int


@dataclass(slots=True)
class _Interface:
    """An interface of a file.

    Args:
        number: its interface id, in the order of its blocks.
        delivered: number of packets written.
        lost: number of packets lost before those.
    """

    number: int
    delivered: int = 0
    lost: int = 0


class PcapNgFile:
    """A pcapng file; a ``CaptureFormat``.

    Args:
        blocks: buffer that the file is written to.
        run_info: description of the run.
        describe: returns name and description of an interface.
        always_ethernet: use one link type only, for readers that accept no second.
        wall: returns ns since the epoch.
    """

    has_comments = True

    def __init__(
        self,
        blocks: BlockBuffer,
        run_info: RunInfo,
        describe: DescribeInterface,
        always_ethernet: bool = False,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self.always_ethernet = always_ethernet
        self._blocks = blocks
        self._run_info = run_info
        self._describe = describe
        self._wall = wall
        self._start_time = wall()
        self._interfaces: dict[tuple[Device, int], _Interface] = {}
        self._last_interface: _Interface | None = None

    def begin(self) -> None:
        """Write the Section Header Block."""
        run_info = self._run_info
        self._blocks.write(
            section_header(
                hardware=run_info.hardware,
                system=run_info.system,
                application=run_info.application,
                comment=run_info.command,
            )
        )

    def max_growth(self, packet: PcapPacket) -> int:
        """Return an upper bound of the growth, with the statistics of all interfaces."""
        interfaces = len(self._interfaces)
        size = MAX_PACKET_OVERHEAD + len(packet.frame.data) + len(packet.comment)
        if (packet.device, packet.frame.linktype) not in self._interfaces:
            interfaces += 1
            size += len(self._description(packet.device, packet.frame.linktype))
        return size + interfaces * STATISTICS_SIZE

    def add(self, packet: PcapPacket) -> None:
        """Write an Enhanced Packet Block, after an interface block if its interface is new."""
        key = packet.device, packet.frame.linktype
        interface = self._interfaces.get(key) or self._add_interface(*key)
        interface.delivered += 1
        self._last_interface = interface
        interface.lost += packet.lost_before
        self._start_time = min(self._start_time, packet.time)
        self._blocks.write(enhanced_packet(interface.number, packet))

    def end(self, lost: int) -> None:
        """Write the Interface Statistics Blocks, for this file only.

        Earlier files of a series may have been rotated away.

        Args:
            lost: number of packets lost after the last one; their interface is unknown, so they are
                counted at that of the last packet.
        """
        now = self._wall()
        if self._last_interface:
            self._last_interface.lost += lost
        for interface in self._interfaces.values():
            self._blocks.write(
                interface_statistics(
                    interface.number, _counters(interface), start=self._start_time, end=now
                )
            )

    def _add_interface(self, device: Device, linktype: int) -> _Interface:
        self._blocks.write(self._description(device, linktype))
        interface = _Interface(len(self._interfaces))
        self._interfaces[device, linktype] = interface
        return interface

    def _description(self, device: Device, linktype: int) -> bytes:
        return interface_description(
            self._describe(device),
            linktype=linktype,
            snaplen=self._run_info.snaplen,
            filter=self._run_info.filter,
        )


def _counters(interface: _Interface) -> Counters:
    # Lost packets had no room in the ring between kernel and pypwru. dumpcap counts such losses
    # as isb_ifdrop, which is the number that Wireshark shows.
    matched = interface.delivered + interface.lost
    return Counters(
        received=matched,
        dropped=interface.lost,
        accepted=matched,
        dropped_by_system=interface.lost,
        delivered=interface.delivered,
    )
