"""Blocks of the pcapng format: values in, the bytes of one whole block out.

A block is its type, its length, a body, a list of options, and its length again; body and values of
options are padded to 32 bits with zeros. All is little-endian on every machine: a reader takes the
byte order from the section header (section 3.6.1).

Source: draft-ietf-opsawg-pcapng-06, sections 3.1 (blocks), 3.5 (options), 3.6 (data format), and
those that the functions name.
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-06.html
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pypwru.pcap.packet import InterfaceInfo, PcapPacket

_SECTION_HEADER, _INTERFACE_DESCRIPTION = 0x0A0D0D0A, 1
_INTERFACE_STATISTICS, _ENHANCED_PACKET = 5, 6

_OPT_ENDOFOPT, _OPT_COMMENT = 0, 1
_SHB_HARDWARE, _SHB_OS, _SHB_USERAPPL = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _IF_FILTER = 2, 3, 9, 11
_EPB_FLAGS, _EPB_DROPCOUNT, _EPB_PACKETID, _EPB_QUEUE = 2, 4, 5, 6
_ISB_STARTTIME, _ISB_ENDTIME = 2, 3
_ISB_IFRECV, _ISB_IFDROP, _ISB_FILTERACCEPT, _ISB_OSDROP, _ISB_USRDELIV = 4, 5, 6, 7, 8

_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_VERSION = 1, 0
_UNKNOWN_LENGTH = -1  # of the section: it isn't known before its last block
_NANOSECONDS = 9  # if_tsresol: the negative power of 10
_PCAP_FILTER = b"\0"  # first byte of if_filter: a string of libpcap's filter language follows
_MAX_VALUE = (1 << 16) - 4  # bytes: the largest multiple of 4 that the length of an option holds
_PADDING = b"", b"\0", b"\0\0", b"\0\0\0"  # by the number of missing bytes

_HEAD = Struct("<II")  # block type, block length
_TAIL = Struct("<HHI")  # opt_endofopt, block length
_OPTION = Struct("<HH")  # option type, bytes of its value without padding
_SECTION_BODY = Struct("<IHHq")
_INTERFACE_BODY = Struct("<HHI")
_INTERFACE_OPTIONS = Struct("<HHB3x")
_PACKET_HEAD = Struct("<II IIIII")  # with block type and block length
_PACKET_TAIL = Struct("<HHI HHQ HHQ HHI HHI")  # with opt_endofopt and block length
_STATISTICS_BODY = Struct("<III")
_STATISTICS_OPTIONS = Struct("<HHII HHII HHQ HHQ HHQ HHQ HHQ")

_BLOCK_OVERHEAD = _HEAD.size + _TAIL.size
_PACKET_FIXED = _PACKET_HEAD.size + _PACKET_TAIL.size
MAX_PACKET_OVERHEAD = _PACKET_FIXED + _OPTION.size + 2 * max(map(len, _PADDING))
"""Maximum bytes of an Enhanced Packet Block beside the captured bytes and the comment."""
STATISTICS_SIZE = _BLOCK_OVERHEAD + _STATISTICS_BODY.size + _STATISTICS_OPTIONS.size
"""Bytes of an Interface Statistics Block."""


class Counters(NamedTuple):
    """Numbers of packets of an interface, since the capture began.

    Args:
        received: by the interface (isb_ifrecv).
        dropped: by the interface, for lack of resources (isb_ifdrop).
        accepted: by the filter (isb_filteraccept).
        dropped_by_system: by the operating system (isb_osdrop).
        delivered: to the user (isb_usrdeliv).
    """

    received: int
    dropped: int
    accepted: int
    dropped_by_system: int
    delivered: int


def section_header(*, hardware: str, system: str, application: str, comment: str) -> bytes:
    """Return a Section Header Block (section 4.1), for a section of unknown length.

    Args:
        hardware: description of the machine (shb_hardware).
        system: name of the operating system (shb_os).
        application: name of the program (shb_userappl).
        comment: on the section (opt_comment).
    """
    return _block(
        _SECTION_HEADER,
        _SECTION_BODY.pack(_BYTE_ORDER_MAGIC, *_VERSION, _UNKNOWN_LENGTH),
        _option(_SHB_HARDWARE, _utf8(hardware)),
        _option(_SHB_OS, _utf8(system)),
        _option(_SHB_USERAPPL, _utf8(application)),
        _option(_OPT_COMMENT, _utf8(comment)),
    )


def interface_description(
    info: InterfaceInfo, *, linktype: int, snaplen: int, filter: str
) -> bytes:
    """Return an Interface Description Block (section 4.2), whose timestamps are in ns.

    The interface id is the number of such blocks before it in the section.

    Args:
        info: name (if_name; no option if it is empty) and description (if_description).
        linktype: LINKTYPE_*.
        snaplen: maximum bytes of a packet.
        filter: libpcap expression (if_filter); empty for none.
    """
    return _block(
        _INTERFACE_DESCRIPTION,
        _INTERFACE_BODY.pack(linktype, 0, snaplen),
        _option(_IF_NAME, _utf8(info.name)) if info.name else b"",
        _option(_IF_DESCRIPTION, _utf8(info.description)),
        _option(_IF_FILTER, _PCAP_FILTER + _utf8(filter)) if filter else b"",
        _INTERFACE_OPTIONS.pack(_IF_TSRESOL, 1, _NANOSECONDS),
    )


def enhanced_packet(interface: int, packet: PcapPacket) -> bytes:
    """Return an Enhanced Packet Block (section 4.3).

    Args:
        interface: id of the interface.
        packet: everything else; its device isn't used.
    """
    time, frame, _, comment, flags, packet_id, dropped, queue = packet
    _, data, length = frame
    upper, lower = _halves(time)
    caplen = len(data)
    padding = _PADDING[-caplen % 4]
    comment_option = _option(_OPT_COMMENT, comment)
    total = _PACKET_FIXED + caplen + len(padding) + len(comment_option)
    # Written for each packet: without _block() and a Struct for each part it takes half the time.
    head = _PACKET_HEAD.pack(_ENHANCED_PACKET, total, interface, upper, lower, caplen, length)
    tail = _PACKET_TAIL.pack(
        _EPB_FLAGS, 4, flags,
        _EPB_DROPCOUNT, 8, dropped,
        _EPB_PACKETID, 8, packet_id,
        _EPB_QUEUE, 4, queue,
        _OPT_ENDOFOPT, 0, total,
    )  # fmt: skip
    return b"".join((head, data, padding, comment_option, tail))


def interface_statistics(interface: int, counters: Counters, *, start: int, end: int) -> bytes:
    """Return an Interface Statistics Block (section 4.6).

    Args:
        interface: id of the interface.
        counters: as they were at ``end``.
        start: of the capture, ns since the epoch.
        end: of the capture, ns since the epoch.
    """
    return _block(
        _INTERFACE_STATISTICS,
        _STATISTICS_BODY.pack(interface, *_halves(end)),
        _STATISTICS_OPTIONS.pack(
            *(_ISB_STARTTIME, 8, *_halves(start)),
            *(_ISB_ENDTIME, 8, *_halves(end)),
            *(_ISB_IFRECV, 8, counters.received),
            *(_ISB_IFDROP, 8, counters.dropped),
            *(_ISB_FILTERACCEPT, 8, counters.accepted),
            *(_ISB_OSDROP, 8, counters.dropped_by_system),
            *(_ISB_USRDELIV, 8, counters.delivered),
        ),
    )


def _block(block_type: int, *parts: bytes) -> bytes:
    """Return a block of body and options, padded already; opt_endofopt is added."""
    length = _BLOCK_OVERHEAD + sum(map(len, parts))
    return b"".join((_HEAD.pack(block_type, length), *parts, _TAIL.pack(_OPT_ENDOFOPT, 0, length)))


def _option(code: int, text: bytes) -> bytes:
    """Return an option whose value is UTF-8; what is too long for one is truncated."""
    if len(text) > _MAX_VALUE:
        # Not within a character: writers write valid UTF-8 only (section 3.6.3).
        text = text[:_MAX_VALUE].decode(errors="ignore").encode()
    return _OPTION.pack(code, len(text)) + text + _PADDING[-len(text) % 4]


def _utf8(text: str) -> bytes:
    """Encode to valid UTF-8, as section 3.6.3 requires; surrogates (PEP 383) become U+FFFD."""
    return os.fsencode(text).decode(errors="replace").encode()


def _halves(number: int) -> tuple[int, int]:
    """Return upper and lower 32 bits: the format's order of them in a timestamp."""
    return number >> 32, number & 0xFFFFFFFF
