"""The traffic of the ground truth: the same packets, in the same order, whenever it is sent.

All of it is sent by one thread on one CPU. So a packet goes its whole path, through every namespace
and back as the reply, while its sender waits in ``settle``; nothing is left to timers, since each
connection ends before one of TCP's can run out (``disturbances`` shows whether one did).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.lab.net.topology import inside
from tests.lab.truth.wires import (
    BRIDGED_FAR,
    BRIDGED_NEAR,
    FAR,
    FAR6,
    MARK,
    NEAR,
    NEAR6,
    PUBLIC,
    ROUTER,
    ROUTER6,
    TRACED,
)

UDP_PORTS = range(1001, 1009)
TCP_PORTS = range(2001, 2009)
LISTENING = 4  # so many of the first ports have a listening socket
_HOPS = 16  # no path is longer, there and back
_CPU = 0
_NOW = struct.pack("ii", 1, 0)  # SO_LINGER: a reset and no TIME_WAIT
_ECHO = {socket.AF_INET: (socket.IPPROTO_ICMP, 8), socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128)}


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _socket(namespace: str, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """Return a socket bound to ``port`` of all addresses of its family, non-blocking."""
    with inside(namespace):
        made = socket.socket(_family(address), kind)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    return made


def settle(hops: int = _HOPS) -> None:
    """Wait until a sent packet has been handled, on a path of ``hops``.

    A CPU handles what it received in order, so a packet under way has moved on a hop once a later
    datagram is here.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as both:
        both.settimeout(60)
        both.bind(("127.0.0.1", 0))
        for _ in range(hops):
            both.sendto(b"hop", both.getsockname())
            both.recv(16)


def ping(namespace: str, address: str) -> None:
    """Send an echo request, which the other end's kernel answers."""
    family = _family(address)
    protocol, request = _ECHO[family]
    with inside(namespace):
        sender = socket.socket(family, socket.SOCK_RAW, protocol)
    with sender:
        _send(sender, _with_checksum(struct.pack("!BBHHH", request, 0, 0, 7, 1)), (address, 0))
        settle()


def _with_checksum(message: bytes) -> bytes:
    """Fill in the checksum of ICMP; the kernel fills in that of ICMPv6."""
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]


def _send(sender: socket.socket, message: bytes, to: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):  # EPERM: dropped by the rules on the way out
        sender.sendto(message, to)


def udp(namespace: str, address: str, ports: Sequence[int]) -> None:
    with _socket(namespace, socket.SOCK_DGRAM, address, 1000) as sender:
        for port in ports:
            _send(sender, b"datagram", (address, port))
            settle()


@contextlib.contextmanager
def _listening(namespace: str, address: str, ports: Sequence[int]) -> Iterator[None]:
    """Receive datagrams at far's first ports; for the others the reply is an ICMP error."""
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(_socket(namespace, socket.SOCK_DGRAM, address, port))
        yield


def tcp(address: str, port: int, server: str) -> None:
    """Do a handshake and a reset, from near; a packet that the rules drop is given up at once."""
    with (
        _socket(server, socket.SOCK_STREAM, address, port) as listener,
        _socket("near", socket.SOCK_STREAM, address, port + 1000) as client,
    ):
        if port - TCP_PORTS[0] < LISTENING:
            listener.listen()
        with contextlib.suppress(OSError):  # EINPROGRESS, or the error of a rule
            client.connect((address, port))
        settle()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
        client.close()
        settle()
    settle()


def arp(namespace: str, device: str, source: tuple[int, str], target: str) -> None:
    """Send an ARP request for ``target``, built by hand; the kernel answers."""
    mac, own = bytes([2, 0, 0, 0, 0, source[0]]), socket.inet_aton(source[1])
    head = struct.pack("!6s6sHHHBBH", b"\xff" * 6, mac, 0x0806, 1, 0x0800, 6, 4, 1)
    with inside(namespace):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sender, contextlib.suppress(OSError):
        sender.bind((device, 0))
        sender.send(head + mac + own + bytes(6) + socket.inet_aton(target) + bytes(18))
    settle()


def _pings() -> None:
    for namespace, address in (
        ("near", ROUTER),
        ("near", ROUTER6),
        ("near", FAR),
        ("near", FAR6),
        ("far", NEAR),
        ("far", NEAR6),
        ("router", FAR),
        ("near", PUBLIC),
        ("near", BRIDGED_FAR),
        ("far", BRIDGED_NEAR),
    ):
        ping(namespace, address)


def _datagrams() -> None:
    listening_ports = UDP_PORTS[:LISTENING]
    with _listening("far", FAR, listening_ports), _listening("far", FAR6, listening_ports):
        for address in (FAR, FAR6):
            udp("near", address, UDP_PORTS)
        udp("near", BRIDGED_FAR, UDP_PORTS[2:6])
        udp("near", FAR, UDP_PORTS)  # again: existing connections, used up limits
    for address in (ROUTER, ROUTER6, PUBLIC):
        udp("near", address, UDP_PORTS[:3])
    udp("router", FAR, UDP_PORTS[6:])


def _connections() -> None:
    for port in TCP_PORTS:
        tcp(FAR, port, "far")
    for port in TCP_PORTS[2:6]:
        tcp(FAR6, port, "far")
    for port in TCP_PORTS[:2]:
        tcp(PUBLIC, port, "far")
    for port in TCP_PORTS[:2]:
        tcp(ROUTER, port, "router")
    for port in TCP_PORTS[3:5]:
        tcp(BRIDGED_FAR, port, "far")


def _questions() -> None:
    arp("near", "near0", (1, NEAR), ROUTER)
    arp("router", "rtr0", (2, ROUTER), NEAR)
    arp("near", "near1", (5, BRIDGED_NEAR), BRIDGED_FAR)


_ALL: tuple[Callable[[], None], ...] = (_pings, _datagrams, _connections, _questions)


def send_all() -> None:
    """Send all packets, from a thread that is on one CPU."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_CPU})
    try:
        for send in _ALL:
            send()
    finally:
        os.sched_setaffinity(0, usual)


def mark(number: int) -> None:
    """Send a datagram in the namespace ``mark`` to port ``number``."""
    with inside(MARK):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"mark", ("127.0.0.1", number))
        settle()


def disturbances() -> int:
    """Return other packets so far: TCP's retransmissions, and reports of joined groups."""
    return sum(_counted("RetransSegs", "OutMcastPkts", "Ip6OutMcastPkts"))


def segments() -> list[int]:
    """Return what TCP sent so far: an acknowledgement goes alone or with data, depending on the
    time.
    """
    return _counted("OutSegs")


def _counted(*counters: str) -> list[int]:
    return [sum(_counters(namespace)[name] for name in counters) for namespace in TRACED]


def _counters(namespace: str) -> dict[str, int]:
    with inside(namespace):
        counters = Path("/proc/thread-self/net")
        texts = {name: (counters / name).read_text() for name in ("snmp", "netstat", "snmp6")}
    found: dict[str, str] = {}
    for text in (texts["snmp"], texts["netstat"]):
        for names, values in zip(*[iter(text.splitlines())] * 2, strict=True):
            found |= dict(zip(names.split(), values.split(), strict=True))
    found |= dict(line.split() for line in texts["snmp6"].splitlines())
    return {name: int(value) for name, value in found.items() if value.lstrip("-").isdigit()}
