"""The classic format, with nanoseconds: frames of one link type, and nothing else about them."""

from __future__ import annotations

import pypwru.scapy_home  # noqa: F401 -- first

# isort: split
from scapy.utils import RawPcapWriter

from pypwru.output.pcap.entry import SECOND, Blocks, Entry
from pypwru.output.pcap.frames import ETHERNET

_RECORD_HEADER = 16


class Classic:
    """A file.

    Args:
        blocks: takes what is written.
        snaplen: octets of a packet at most.
    """

    always_ethernet = True
    has_comments = False

    def __init__(self, blocks: Blocks, snaplen: int) -> None:
        self._writer = RawPcapWriter(
            blocks, linktype=ETHERNET, endianness="<", nano=True, snaplen=snaplen
        )

    def begin(self) -> None:
        """The file's header."""
        self._writer.write_header(None)

    def needs(self, entry: Entry) -> int:
        """Exactly."""
        return _RECORD_HEADER + len(entry.frame.octets)

    def add(self, entry: Entry) -> None:
        """A record."""
        second, nanoseconds = divmod(entry.time, SECOND)
        _, octets, length = entry.frame
        self._writer.write_packet(octets, sec=second, usec=nanoseconds, wirelen=length)

    def end(self, lost: int) -> None:
        """Nothing."""
