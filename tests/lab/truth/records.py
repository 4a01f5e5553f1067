"""The kernel's nft trace records of packets for which ``meta nftrace set 1`` is executed, read from
their netlink group.

Layout and numbers are linux/netlink.h's, linux/netfilter/nfnetlink.h's and nf_tables.h's.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
VERDICTS = {
    0: "drop",
    1: "accept",
    2: "stolen",
    3: "queue",
    4: "repeat",
    5: "stop",
    -1: "continue",
    -2: "break",
    -3: "jump",
    -4: "goto",
    -5: "return",
}
NO_IP = "-"
_NETFILTER, _GROUP = 12, 9  # NETLINK_NETFILTER, NFNLGRP_NFTRACE
_TRACE = 10 << 8 | 17  # NFNL_SUBSYS_NFTABLES, NFT_MSG_TRACE
_CONNTRACK_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_ADD_MEMBERSHIP, _SOL_NETLINK, _RECEIVE_FORCED = 1, 270, 33
_TABLE, _CHAIN, _RULE, _TYPE, _VERDICT, _ID, _NETWORK, _POLICY = 1, 2, 3, 4, 5, 6, 8, 16
_CODE, _TARGET = 1, 2  # NFTA_VERDICT_*
_TYPE_POLICY = 1


class Record(NamedTuple):
    """One nft event of a packet.

    Args:
        chain: family, table and name.
        decision: ``policy drop``, ``handle 12 jump web``, or ``return`` at the end of a chain.
        flow: addresses, or NO_IP, where the record has them: once for each base chain.
        packet: the same for consecutive records of one packet; later maybe for another's.
    """

    chain: str
    decision: str
    flow: str
    packet: int


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """Open a socket that gets the records of this thread's network namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as made:
        made.setsockopt(socket.SOL_SOCKET, _RECEIVE_FORCED, 1 << 26)
        made.bind((0, 0))  # without its own port it would be taken for the sender
        made.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        made.setblocking(False)
        yield made


def received(from_kernel: socket.socket) -> list[Record]:
    """Return all that came so far: the kernel sends while it handles the packet.

    Raises:
        OSError: ENOBUFS: there were more than the socket had room for.
    """
    found: list[Record] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found += decoded(from_kernel.recv(1 << 16))
    return found


def forget_connections() -> None:
    """Empty the conntrack table of this thread's network namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as made:
        made.send(struct.pack("=IHHIIBBH", 20, _CONNTRACK_DELETE, 5, 1, 0, 0, 0, 0))
        (error,) = struct.unpack_from("=i", made.recv(1 << 12), 16)
    if error:
        raise OSError(-error, "flush of conntrack")


def decoded(datagram: bytes) -> Iterator[Record]:
    """Yield the trace records in a datagram."""
    while len(datagram) >= 20:
        size, kind = struct.unpack_from("=IH", datagram)
        if kind == _TRACE:
            yield _record(datagram[16], _attributes(datagram[20:size]))
        datagram = datagram[(size + 3) & ~3 :]


def _attributes(octets: bytes) -> dict[int, bytes]:
    found = {}
    while len(octets) >= 4:
        size, kind = struct.unpack_from("=HH", octets)
        found[kind & 0x3FFF] = octets[4:size]
        octets = octets[(size + 3) & ~3 :]
    return found


def _text(octets: bytes) -> str:
    return octets.rstrip(b"\0").decode()


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def _record(family: int, attributes: dict[int, bytes]) -> Record:
    chain = f"{FAMILIES[family]} {_text(attributes[_TABLE])} {_text(attributes[_CHAIN])}"
    return Record(
        chain, _decision(attributes), _flow(attributes.get(_NETWORK, b"")), _number(attributes[_ID])
    )


def _decision(attributes: dict[int, bytes]) -> str:
    if _number(attributes[_TYPE]) == _TYPE_POLICY:
        return f"policy {VERDICTS[_number(attributes[_POLICY])]}"
    if _RULE not in attributes:  # nft_trace_fill_rule_info() of net/netfilter/nf_tables_trace.c
        return "return"
    verdict = _attributes(attributes[_VERDICT])
    (code,) = struct.unpack("!i", verdict[_CODE])
    # Above its low byte a queue has its number and flags.
    word = VERDICTS[code] if code < 0 else VERDICTS[code & 0xFF]
    target = f" {_text(verdict[_TARGET])}" if _TARGET in verdict else ""
    return f"handle {_number(attributes[_RULE])} {word}{target}"


def _flow(header: bytes) -> str:
    """Return source and destination; empty without a header."""
    if not header:
        return ""
    version = header[0] >> 4
    if version == 4:
        return _addresses(header[12:16], header[16:20])
    return _addresses(header[8:24], header[24:40]) if version == 6 else NO_IP


def _addresses(source: bytes, destination: bytes) -> str:
    return f"{ipaddress.ip_address(source)} > {ipaddress.ip_address(destination)}"
