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

    from pypwru.output.pcap.entry import Blocks, Describe, Described, Device, Entry

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
# Option codes: of every block, of a section, an interface, a packet, and of statistics.
_END, _COMMENT = 0, 1
_HARDWARE, _OS, _APPLICATION = 2, 3, 4
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER = 2, 3, 9, 11
_FLAGS, _DROPPED, _NUMBER, _QUEUE = 2, 4, 5, 6
_START, _STOP, _RECEIVED, _LOST, _ACCEPTED, _LOST_BY_SYSTEM, _DELIVERED = range(2, 9)

_NANOSECONDS = b"\x09"  # 10 ** -9
_PCAP_FILTER = b"\0"  # prefix of if_filter: the text is a libpcap filter
_LONGEST = (1 << 16) - 4  # bytes of an option: the largest multiple of 4 that a u16 holds
_UNKNOWN = -1  # length of the section
_HALF = 32

_WORD = Struct("<I")
_OPTION = Struct("<HH")
_SECTION_BODY = Struct("<HHq")
_INTERFACE_BODY = Struct("<HHI")
_PACKET_HEAD = Struct("<IIIII")
_PACKET_OPTIONS = Struct("<HHI HHQ HHQ HHI")
_STATISTICS_BODY = Struct("<III")
_TIME = Struct("<II")
_COUNT = Struct("<Q")

_AROUND = 12 + _OPTION.size  # type and two lengths of a block, and opt_endofopt
_PADDING = 3
_PACKET_SIZE = _AROUND + _PACKET_HEAD.size + _PACKET_OPTIONS.size + _OPTION.size + 2 * _PADDING
_STATISTICS_SIZE = _AROUND + _STATISTICS_BODY.size + 7 * (_OPTION.size + _COUNT.size)


class About(NamedTuple):
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

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(os.devnull)
        self.f.close()
        self.f = blocks

    def option(self, code: int, value: bytes) -> bytes:
        """Encode an option; a value that is too long is truncated."""
        value = value[:_LONGEST]
        padded: bytes = self._add_padding(value)
        return _OPTION.pack(code, len(value)) + padded

    def write_block(self, kind: int, body: bytes, *options: bytes) -> None:
        """Write a block.

        Args:
            kind: block type.
            body: everything before the options.
            options: encoded options, without opt_endofopt, which is added.
        """
        end = _OPTION.pack(_END, 0)
        self.f.write(self.build_block(_WORD.pack(kind), body, b"".join((*options, end))))


class PcapNg:
    """A pcapng file; a ``Format``.

    Args:
        blocks: buffer that the file is written to.
        about: description of the run.
        describe: returns name and description of an interface.
        always_ethernet: use one link type only, for readers that accept no second.
        wall: returns ns since the epoch.
    """

    has_comments = True

    def __init__(
        self,
        blocks: Blocks,
        about: About,
        describe: Describe,
        always_ethernet: bool = False,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self.always_ethernet = always_ethernet
        self._writer = _Writer(blocks)
        self._about = about
        self._describe = describe
        self._wall = wall
        self._began = wall()
        self._interfaces: dict[tuple[Device, int], _Interface] = {}
        self._newest: _Interface | None = None

    def begin(self) -> None:
        """Write the Section Header Block."""
        writer, about = self._writer, self._about
        writer.write_block(
            _SECTION,
            writer.endian_magic + _SECTION_BODY.pack(1, 0, _UNKNOWN),
            writer.option(_HARDWARE, _utf8(about.hardware)),
            writer.option(_OS, _utf8(about.system)),
            writer.option(_APPLICATION, _utf8(about.application)),
            writer.option(_COMMENT, _utf8(about.command)),
        )

    def needs(self, entry: Entry) -> int:
        """Return an upper bound of the growth: of a new interface more than it needs."""
        interfaces = len(self._interfaces)
        size = _PACKET_SIZE + len(entry.frame.octets) + len(entry.comment)
        if (entry.device, entry.frame.linktype) not in self._interfaces:
            interfaces += 1
            options = self._options(self._describe(entry.device))
            size += _AROUND + _INTERFACE_BODY.size + sum(map(len, options))
        return size + interfaces * _STATISTICS_SIZE

    def add(self, entry: Entry) -> None:
        """Write an Enhanced Packet Block, after an interface block if its interface is new."""
        key = entry.device, entry.frame.linktype
        interface = self._interfaces.get(key) or self._open(*key)
        interface.delivered += 1
        self._newest = interface
        interface.lost += entry.dropped
        self._began = min(self._began, entry.time)
        _, octets, length = entry.frame
        head = _PACKET_HEAD.pack(interface.number, *_halves(entry.time), len(octets), length)
        self._writer.write_block(
            _PACKET,
            head + octets,
            self._writer.option(_COMMENT, entry.comment),
            _PACKET_OPTIONS.pack(
                *(_FLAGS, 4, entry.flags),
                *(_DROPPED, 8, entry.dropped),
                *(_NUMBER, 8, entry.number),
                *(_QUEUE, 4, entry.queue),
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
        if self._newest:
            self._newest.lost += lost
        for interface in self._interfaces.values():
            self._write_statistics(interface, now)

    def _open(self, device: Device, linktype: int) -> _Interface:
        options = self._options(self._describe(device))
        body = _INTERFACE_BODY.pack(linktype, 0, self._about.snaplen)
        self._writer.write_block(_INTERFACE, body, *options)
        interface = _Interface(len(self._interfaces))
        self._interfaces[device, linktype] = interface
        return interface

    def _options(self, described: Described) -> list[bytes]:
        option, name, filter = self._writer.option, described.name, self._about.filter
        return [
            *([option(_NAME, _utf8(name))] if name else []),
            option(_DESCRIPTION, _utf8(described.description)),
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
            option(_START, _TIME.pack(*_halves(self._began))),
            option(_STOP, _TIME.pack(*_halves(now))),
            *(option(code, _COUNT.pack(count)) for code, count in counts.items()),
        )


def _utf8(text: str) -> bytes:
    """Encode to valid UTF-8, as the format requires; surrogates (PEP 383) become U+FFFD."""
    return os.fsencode(text).decode(errors="replace").encode()


def _halves(number: int) -> tuple[int, int]:
    return number >> _HALF, number & ((1 << _HALF) - 1)
