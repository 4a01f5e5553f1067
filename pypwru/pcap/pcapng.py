"""pcapng: scapy's writer plus the options and the block type that it lacks.

A file is one section: Section Header Block, for each interface an Interface Description Block
before its first packet, Enhanced Packet Blocks, and finally an Interface Statistics Block for each
interface. Fields for which the format has no option are in the comment of the packet.
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import pypwru.scapy_home  # noqa: F401 -- first

# isort: split
from scapy.utils import RawPcapNgWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from pypwru.pcap.packet import BlockBuffer, DescribeInterface, Device, InterfaceInfo, PcapPacket

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
# Option codes: of every block, of a section, an interface, a packet, and of statistics.
_END, _COMMENT = 0, 1
_HARDWARE, _OS, _APPLICATION = 2, 3, 4
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER = 2, 3, 9, 11
_FLAGS, _DROPPED, _NUMBER, _QUEUE = 2, 4, 5, 6
_START, _STOP, _RECEIVED, _LOST, _ACCEPTED, _LOST_BY_SYSTEM, _DELIVERED = range(2, 9)

_NANOSECONDS = b"\x09"  # 10 ** -9
_PCAP_FILTER = b"\0"  # prefix of if_filter: the text is a libpcap filter
_MAX_OPTION = (1 << 16) - 4  # bytes of an option: the largest multiple of 4 that a u16 holds
_UNKNOWN_LENGTH = -1  # length of the section
_HALF_BITS = 32

_U32 = Struct("<I")
_OPTION = Struct("<HH")
_SECTION_BODY = Struct("<HHq")
_INTERFACE_BODY = Struct("<HHI")
_PACKET_HEAD = Struct("<IIIII")
_PACKET_OPTIONS = Struct("<HHI HHQ HHQ HHI")
_STATISTICS_BODY = Struct("<III")
_TIME = Struct("<II")
_COUNT = Struct("<Q")

_BLOCK_OVERHEAD = 12 + _OPTION.size  # type and two lengths of a block, and opt_endofopt
_MAX_PADDING = 3
_PACKET_SIZE = (
    _BLOCK_OVERHEAD + _PACKET_HEAD.size + _PACKET_OPTIONS.size + _OPTION.size + 2 * _MAX_PADDING
)
_STATISTICS_SIZE = _BLOCK_OVERHEAD + _STATISTICS_BODY.size + 7 * (_OPTION.size + _COUNT.size)


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


class _Writer(RawPcapNgWriter):  # type: ignore[misc]
    """scapy's writer, with options of every kind, writing to a buffer.

    Args:
        blocks: replaces the file of the writer.
    """

    f: Any

    def __init__(self, blocks: BlockBuffer) -> None:
        super().__init__(os.devnull)
        self.f.close()
        self.f = blocks

    def option(self, code: int, value: bytes) -> bytes:
        """Encode an option; a value that is too long is truncated."""
        value = value[:_MAX_OPTION]
        padded: bytes = self._add_padding(value)
        return _OPTION.pack(code, len(value)) + padded

    def write_block(self, block_type: int, body: bytes, *options: bytes) -> None:
        """Write a block.

        Args:
            block_type: block type.
            body: everything before the options.
            options: encoded options, without opt_endofopt, which is added.
        """
        end = _OPTION.pack(_END, 0)
        self.f.write(self.build_block(_U32.pack(block_type), body, b"".join((*options, end))))


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
        self._writer = _Writer(blocks)
        self._run_info = run_info
        self._describe = describe
        self._wall = wall
        self._start_time = wall()
        self._interfaces: dict[tuple[Device, int], _Interface] = {}
        self._last_interface: _Interface | None = None

    def begin(self) -> None:
        """Write the Section Header Block."""
        writer, run_info = self._writer, self._run_info
        writer.write_block(
            _SECTION,
            writer.endian_magic + _SECTION_BODY.pack(1, 0, _UNKNOWN_LENGTH),
            writer.option(_HARDWARE, _utf8(run_info.hardware)),
            writer.option(_OS, _utf8(run_info.system)),
            writer.option(_APPLICATION, _utf8(run_info.application)),
            writer.option(_COMMENT, _utf8(run_info.command)),
        )

    def max_growth(self, packet: PcapPacket) -> int:
        """Return an upper bound of the growth: of a new interface more than it needs."""
        interfaces = len(self._interfaces)
        size = _PACKET_SIZE + len(packet.frame.data) + len(packet.comment)
        if (packet.device, packet.frame.linktype) not in self._interfaces:
            interfaces += 1
            options = self._options(self._describe(packet.device))
            size += _BLOCK_OVERHEAD + _INTERFACE_BODY.size + sum(map(len, options))
        return size + interfaces * _STATISTICS_SIZE

    def add(self, packet: PcapPacket) -> None:
        """Write an Enhanced Packet Block, after an interface block if its interface is new."""
        key = packet.device, packet.frame.linktype
        interface = self._interfaces.get(key) or self._add_interface(*key)
        interface.delivered += 1
        self._last_interface = interface
        interface.lost += packet.lost_before
        self._start_time = min(self._start_time, packet.time)
        _, data, length = packet.frame
        head = _PACKET_HEAD.pack(interface.number, *_halves(packet.time), len(data), length)
        self._writer.write_block(
            _PACKET,
            head + data,
            self._writer.option(_COMMENT, packet.comment),
            _PACKET_OPTIONS.pack(
                *(_FLAGS, 4, packet.flags),
                *(_DROPPED, 8, packet.lost_before),
                *(_NUMBER, 8, packet.packet_number),
                *(_QUEUE, 4, packet.queue),
            ),
        )

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
            self._write_statistics(interface, now)

    def _add_interface(self, device: Device, linktype: int) -> _Interface:
        options = self._options(self._describe(device))
        body = _INTERFACE_BODY.pack(linktype, 0, self._run_info.snaplen)
        self._writer.write_block(_INTERFACE, body, *options)
        interface = _Interface(len(self._interfaces))
        self._interfaces[device, linktype] = interface
        return interface

    def _options(self, info: InterfaceInfo) -> list[bytes]:
        option, name, filter = self._writer.option, info.name, self._run_info.filter
        return [
            *([option(_NAME, _utf8(name))] if name else []),
            option(_DESCRIPTION, _utf8(info.description)),
            *([option(_FILTER, _PCAP_FILTER + _utf8(filter))] if filter else []),
            option(_RESOLUTION, _NANOSECONDS),
        ]

    def _write_statistics(self, interface: _Interface, now: int) -> None:
        # Lost packets had no room in the ring between kernel and pypwru. dumpcap counts such losses
        # as isb_ifdrop, which is the number that Wireshark shows.
        matched = interface.delivered + interface.lost
        counts = {
            _RECEIVED: matched,
            _LOST: interface.lost,
            _ACCEPTED: matched,
            _LOST_BY_SYSTEM: interface.lost,
            _DELIVERED: interface.delivered,
        }
        option = self._writer.option
        self._writer.write_block(
            _STATISTICS,
            _STATISTICS_BODY.pack(interface.number, *_halves(now)),
            option(_START, _TIME.pack(*_halves(self._start_time))),
            option(_STOP, _TIME.pack(*_halves(now))),
            *(option(code, _COUNT.pack(count)) for code, count in counts.items()),
        )


def _utf8(text: str) -> bytes:
    """Encode to valid UTF-8, as the format requires; surrogates (PEP 383) become U+FFFD."""
    return os.fsencode(text).decode(errors="replace").encode()


def _halves(number: int) -> tuple[int, int]:
    return number >> _HALF_BITS, number & ((1 << _HALF_BITS) - 1)
