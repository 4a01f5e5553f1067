"""The classic pcap format with ns timestamps: frames of one link type, without metadata.

The public methods of scapy's writer write it.
"""

from __future__ import annotations

import pypwru.scapy_home  # noqa: F401 -- first

# isort: split
from scapy.utils import RawPcapWriter

from pypwru.pcap.frame import ETHERNET
from pypwru.pcap.packet import SECOND, BlockBuffer, PcapPacket

_RECORD_HEADER = 16


class PcapFile:
    """A pcap file; a ``CaptureFormat``.

    Args:
        blocks: buffer that the file is written to.
        snaplen: maximum bytes of a packet.
    """

    always_ethernet = True
    has_comments = False

    def __init__(self, blocks: BlockBuffer, snaplen: int) -> None:
        self._writer = RawPcapWriter(
            blocks, linktype=ETHERNET, endianness="<", nano=True, snaplen=snaplen
        )

    def begin(self) -> None:
        """Write the file header."""
        self._writer.write_header(None)

    def max_growth(self, packet: PcapPacket) -> int:
        """Return the bytes of the record."""
        return _RECORD_HEADER + len(packet.frame.data)

    def add(self, packet: PcapPacket) -> None:
        """Write a record."""
        second, nanoseconds = divmod(packet.time, SECOND)
        _, data, length = packet.frame
        self._writer.write_packet(data, sec=second, usec=nanoseconds, wirelen=length)

    def end(self, lost: int) -> None:
        """Do nothing: the format has no trailer and no statistics."""
