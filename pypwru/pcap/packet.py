"""The packet to write, the buffer that it is written to, and the interface of a file format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pypwru.pcap.frame import PcapFrame

SECOND = 1_000_000_000


class Device(NamedTuple):
    """The network device of a packet at its event.

    Args:
        netns: inode of the network namespace; 0: unknown.
        netns_cookie: of the namespace; unlike the inode it is never reused. 0: unknown.
        ifindex: 0: the packet had no device.
        ifname: name at that time; empty without a device.
    """

    netns: int
    netns_cookie: int
    ifindex: int
    ifname: str


class PcapPacket(NamedTuple):
    """A packet to write.

    Args:
        time: of the event, ns since the epoch.
        frame: link type and bytes.
        device: at the event.
        comment: logfmt, UTF-8; empty in a format without comments.
        flags: of ``directions.epb_flags``.
        packet_number: the same for all events of a packet (epb_packetid).
        lost_before: number of packets lost since the one written before (epb_dropcount).
        queue: skb->queue_mapping (epb_queue).
    """

    time: int
    frame: PcapFrame
    device: Device
    comment: bytes
    flags: int
    packet_number: int
    lost_before: int
    queue: int


class InterfaceInfo(NamedTuple):
    """Name and description of an interface in a file.

    Args:
        name: of the device; empty if unknown.
        description: its network namespace and ifindex.
    """

    name: str
    description: str


DescribeInterface = Callable[[Device], InterfaceInfo]


class BlockBuffer:
    """A write buffer with the file interface that scapy's writer of classic pcap needs."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes written so far, including those that ``take`` has returned."""
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Append ``data`` to the buffer."""
        self._chunks.append(data)
        self.size += len(data)

    def flush(self) -> None:
        """Do nothing: scapy calls it; the owner of the buffer calls ``take``."""

    def take(self) -> list[bytes]:
        """Remove and return the content of the buffer, one element per write."""
        chunks, self._chunks = self._chunks, []
        return chunks


class CaptureFormat(Protocol):
    """A file of some format, written to ``BlockBuffer``."""

    always_ethernet: bool
    """True if all frames must have link type Ethernet."""
    has_comments: bool
    """True if the format has comments of packets."""

    def begin(self) -> None:
        """Write what precedes the first packet."""

    def max_growth(self, packet: PcapPacket) -> int:
        """Return the maximum bytes that the file grows by for this packet and the file's end."""

    def add(self, packet: PcapPacket) -> None:
        """Write a packet."""

    def end(self, lost: int) -> None:
        """Write what follows the last packet.

        Args:
            lost: number of packets lost after the last one.
        """
