"""pcapng: scapy's writer with the options and the block that it lacks.

A file is one section: its header, each interface before the first packet of it, packets, and at the
end the statistics of every interface. What the format has no option for is in a packet's comment.
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
# Options: of every block, of a section, an interface, a packet, and of statistics.
_END, _COMMENT = 0, 1
_HARDWARE, _OS, _APPLICATION = 2, 3, 4
_NAME, _DESCRIPTION, _RESOLUTION, _FILTER = 2, 3, 9, 11
_FLAGS, _DROPPED, _NUMBER, _QUEUE = 2, 4, 5, 6
_START, _STOP, _RECEIVED, _LOST, _ACCEPTED, _LOST_BY_SYSTEM, _DELIVERED = range(2, 9)

_NANOSECONDS = b"\x09"  # 10 ** -9
_PCAP_FILTER = b"\0"  # in front of the text of a filter: it is libpcap's
_LONGEST = (1 << 16) - 4  # octets of an option, and still a multiple of four
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

_AROUND = 12 + _OPTION.size  # a block's type and two lengths, and the end of its options
_PADDING = 3
_PACKET_SIZE = _AROUND + _PACKET_HEAD.size + _PACKET_OPTIONS.size + _OPTION.size + 2 * _PADDING
_STATISTICS_SIZE = _AROUND + _STATISTICS_BODY.size + 7 * (_OPTION.size + _COUNT.size)


class About(NamedTuple):
    """What a file says of the run.

    Args:
        hardware: the machine's.
        system: kernel, release and version.
        application: name and version.
        command: as typed.
        filter: of libpcap; empty for none.
        snaplen: octets of a packet at most.
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
        number: its place among them.
        delivered: packets written.
        lost: packets lost in front of those.
    """

    number: int
    delivered: int = 0
    lost: int = 0


class _Writer(RawPcapNgWriter):  # type: ignore[misc]
    """What scapy's writer does not have.

    Args:
        blocks: take the place of its file.
    """

    f: Any

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(os.devnull)
        self.f.close()
        self.f = blocks

    def option(self, code: int, value: bytes) -> bytes:
        """An option; what doesn't fit is cut."""
        value = value[:_LONGEST]
        padded: bytes = self._add_padding(value)
        return _OPTION.pack(code, len(value)) + padded

    def write_block(self, kind: int, body: bytes, *options: bytes) -> None:
        """A block; the end of its options need not be among them."""
        end = _OPTION.pack(_END, 0)
        self.f.write(self.build_block(_WORD.pack(kind), body, b"".join((*options, end))))


class PcapNg:
    """A file.

    Args:
        blocks: takes what is written.
        about: the run.
        describe: an interface.
        always_ethernet: for readers that take only one link type.
        wall: nanoseconds since the epoch.
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
        """The section's header."""
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
        """Some more than it is where the interface is new."""
        interfaces = len(self._interfaces)
        size = _PACKET_SIZE + len(entry.frame.octets) + len(entry.comment)
        if (entry.device, entry.frame.linktype) not in self._interfaces:
            interfaces += 1
            options = self._options(self._describe(entry.device))
            size += _AROUND + _INTERFACE_BODY.size + sum(map(len, options))
        return size + interfaces * _STATISTICS_SIZE

    def add(self, entry: Entry) -> None:
        """A packet, and its interface if this is the first of it."""
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
        """Statistics: of this file, since nobody has the others for sure.

        Args:
            lost: packets behind the last one; where those were nobody knows, it counts as there.
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
        # What was lost found no room between kernel and pypwru. libpcap's own capture program
        # counts that as lost by the interface, and Wireshark shows that number.
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
    """As the format wants it; a byte that isn't (PEP 383 keeps it in ``text``) becomes U+FFFD."""
    return os.fsencode(text).decode(errors="replace").encode()


def _halves(number: int) -> tuple[int, int]:
    return number >> _HALF, number & ((1 << _HALF) - 1)
