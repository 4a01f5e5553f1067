"""What both formats are made from, and what a format is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pypwru.output.pcap.frames import Frame

SECOND = 1_000_000_000


class Device(NamedTuple):
    """The device that a packet was on.

    Args:
        netns: inode of the network namespace; 0: not known.
        netns_cookie: the namespace's, which no other ever gets; 0: not known.
        ifindex: 0: it had no device.
        ifname: its name at that moment.
    """

    netns: int
    netns_cookie: int
    ifindex: int
    ifname: str


class Entry(NamedTuple):
    """A packet to write.

    Args:
        time: of the sight, ns since the epoch.
        frame: the packet.
        device: where it was.
        comment: what the trace knows.
        flags: of ``directions.epb_flags``.
        number: the packet's.
        dropped: packets lost since the one before.
        queue: of the device.
    """

    time: int
    frame: Frame
    device: Device
    comment: bytes
    flags: int
    number: int
    dropped: int
    queue: int


class Described(NamedTuple):
    """What a file says of a device.

    Args:
        name: empty where it isn't known.
        description: whose it is.
    """

    name: str
    description: str


Describe = Callable[[Device], Described]


class Blocks:
    """What scapy's writers take for a file: it keeps what is written until somebody takes it."""

    def __init__(self) -> None:
        self.size = 0
        """Octets written so far, those among them that were taken."""
        self._kept: list[bytes] = []

    def write(self, octets: bytes) -> None:
        """Keep ``octets``."""
        self._kept.append(octets)
        self.size += len(octets)

    def flush(self) -> None:
        """Nothing: whoever takes decides."""

    def take(self) -> list[bytes]:
        """All that is kept, which is kept no longer."""
        kept, self._kept = self._kept, []
        return kept


class Format(Protocol):
    """One file; it writes to Blocks."""

    always_ethernet: bool
    """Whether it has one link type."""
    has_comments: bool
    """Whether it has room for them."""

    def begin(self) -> None:
        """What stands before the first packet."""

    def needs(self, entry: Entry) -> int:
        """Octets that the file grows by at most with this packet, its end included."""

    def add(self, entry: Entry) -> None:
        """A packet."""

    def end(self, lost: int) -> None:
        """What stands behind the last one.

        Args:
            lost: packets behind that.
        """
