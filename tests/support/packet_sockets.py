"""Packet data as handlers capture it, in this process, and as a packet socket has it."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pypwru.pcap.packet_data import PacketCapture
from pypwru.wire.record import RawRecord
from tests.support.sessions import RecordReader, session_of

OUTGOING = 4  # PACKET_OUTGOING
_AUXDATA, _VLAN_VALID, _TPID_VALID = 8, 1 << 4, 1 << 6  # PACKET_AUXDATA, TP_STATUS_*


class CapturedRecord(NamedTuple):
    """A record, the name of its target, and its packet data."""

    name: str
    record: RawRecord
    capture: PacketCapture | None


class CaptureSession(RecordReader[CapturedRecord]):
    """A trace whose records have packet data."""

    def decode(self, record: RawRecord) -> CapturedRecord:
        return CapturedRecord(self.name(record), record, self.session.packet_data(record))

    def account(self) -> dict[str, int]:
        """Return the counters of the last line of the log."""
        return self.session.summary(len(self.events))


def captures(events: Sequence[CapturedRecord]) -> list[PacketCapture]:
    return [event.capture for event in events if event.capture]


@contextlib.contextmanager
def capturing(*words: str) -> Iterator[CaptureSession]:
    """Open a session of ``pypwru --output-pcap`` whose packets no output writes."""
    with session_of("--output-pcap=-", "--output-nft=false", *words) as session:
        yield CaptureSession(session)


class Frame(NamedTuple):
    """A packet of a packet socket; ``tag`` is the VLAN tag beside it."""

    octets: bytes
    kind: int
    tag: int


class PacketSocket:
    """A capture on a device: every frame, in and out, that is not read yet."""

    def __init__(self, device: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
        self._socket.setsockopt(263, _AUXDATA, 1)  # SOL_PACKET
        self._socket.bind((device, 3))

    def __enter__(self) -> PacketSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def frames(self) -> list[Frame]:
        """Return those that have come; reception on loopback is done when the sender returns."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                octets, ancillary, _, address = self._socket.recvmsg(
                    1 << 20, 256, socket.MSG_DONTWAIT
                )
                found.append(Frame(octets, address[2], _tag(ancillary)))
        return found


def _tag(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    for _, kind, data in ancillary:
        if kind == _AUXDATA:
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
            if status & _VLAN_VALID:
                return int((tpid if status & _TPID_VALID else 0x8100) << 16 | tci)
    return 0
