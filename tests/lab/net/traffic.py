"""Kinds of packets between topology.py's namespaces: a table of senders and filters.

    python -m tests.lab.net.traffic [KIND...]      in a guest: wires up, and sends each kind once

Everything about a kind is fixed, ports too, so that two boots have the same packets.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.lab.net import topology
from tests.lab.net.topology import ARP_TARGET, DNAT, FAR, FAR6, ROUTER, ROUTER6, inner, inside

Address = tuple[str, int]
SECONDS = 300.0  # until a reply is given up: emulated CPUs are slow
_MIRROR = "protocol ip matchall action mirred egress mirror dev near1"
_NOW = struct.pack("ii", 1, 0)  # SO_LINGER: a reset and no TIME_WAIT, the ports are free again


class Kind(NamedTuple):
    """One kind: the pcap filter that selects its packets, and the function that sends them."""

    selected: str
    send: Callable[[], None]


def ping(address: str, *words: str) -> None:
    command = ["ip", "netns", "exec", "near", "ping", "-q", "-c", "1", "-W", "300", *words, address]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _bound(namespace: str, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    with inside(namespace):
        made = socket.socket(_family(address), kind)
    made.settimeout(SECONDS)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    return made


def udp(address: str, port: int, size: int = 32, answered: bool = True) -> None:
    """Send a datagram from near's ``port - 1``; ``answered`` is whether far gets it."""
    with (
        _bound("far", socket.SOCK_DGRAM, address, port) as receiver,
        _bound("near", socket.SOCK_DGRAM, address, port - 1) as sender,
    ):
        sender.sendto(b"x" * size, (address, port))
        if answered:
            receiver.recv(1 << 16)


@contextlib.contextmanager
def _serving(address: str, port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Listen in far; ``serve`` handles the only connection."""
    with _bound("far", socket.SOCK_STREAM, address, port) as listener:
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(SECONDS)
                serve(connection)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


def tcp(address: str, port: int, size: int = 5) -> None:
    """Connect from near's ``port - 1``; far gets ``size`` bytes and sends a few."""

    def swallow(connection: socket.socket) -> None:
        left = size
        while left:
            left -= len(connection.recv(1 << 20))
        connection.sendall(b"done")
        while connection.recv(1 << 10):
            pass

    with (
        _serving(address, port, swallow),
        _bound("near", socket.SOCK_STREAM, address, port - 1) as client,
    ):
        client.connect((address, port))
        client.sendall(b"x" * size)
        client.recv(1 << 10)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 10):
            pass


def curl(address: str, port: int, local_port: int) -> None:
    """Send HTTP through the router's NAT; the server resets, so that the ports are free again."""

    def serve(connection: socket.socket) -> None:
        while b"\r\n\r\n" not in connection.recv(1 << 16):
            pass
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nlab")
        while connection.recv(1 << 10):
            pass
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)

    with _serving(FAR, port, serve):
        words = f"ip netns exec near curl -s -m 300 --local-port {local_port}".split()
        got = subprocess.run(
            [*words, f"http://{address}:{port}/"], check=True, stdout=subprocess.PIPE
        )
    if got.stdout != b"lab":
        raise RuntimeError(f"curl got {got.stdout!r}")


def arp() -> None:
    subprocess.run(
        ["ip", "-n", "near", "neigh", "del", ARP_TARGET, "dev", "near0"],
        check=False,
        stderr=subprocess.DEVNULL,
    )
    ping(ARP_TARGET)


def sctp() -> None:
    """Send an INIT to a port without a socket, which an ABORT answers."""
    with inside("near"):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    with inside("router"):  # which loads SCTP there, for the ABORT
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    with client, contextlib.suppress(ConnectionRefusedError):
        client.bind(("", 4501))
        client.settimeout(SECONDS)
        client.connect((ROUTER, 4502))


def mirrored() -> None:
    """Send a ping out of near0 whose clone leaves through near1."""
    for words in ("qdisc add dev near0 clsact", f"filter add dev near0 egress {_MIRROR}"):
        topology.run("tc", "-n", "near", *words.split())
    try:
        ping(ROUTER)
    finally:
        topology.run("tc", "-n", "near", "qdisc", "del", "dev", "near0", "clsact")


def flush() -> None:
    """Send a datagram over lo on each CPU: all that was sent before has been handled then.

    A CPU handles what it received in order. And what another CPU freed for it waits in its list
    until it next receives (skb_attempt_defer_free).
    """
    usual = os.sched_getaffinity(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as both:
        both.settimeout(SECONDS)
        both.bind(("127.0.0.1", 4999))
        for cpu in usual:
            os.sched_setaffinity(0, {cpu})
            both.sendto(b"flush", ("127.0.0.1", 4999))
            both.recv(16)
    os.sched_setaffinity(0, usual)


KINDS = {
    "ping4": Kind(f"icmp and host {ROUTER}", lambda: ping(ROUTER)),
    "ping6": Kind(f"icmp6 and host {ROUTER6}", lambda: ping(ROUTER6)),
    "marked": Kind(f"icmp and host {ROUTER}", lambda: ping(ROUTER, "-m", "42")),
    "forward4": Kind(f"icmp and host {FAR}", lambda: ping(FAR)),
    "forward6": Kind(f"icmp6 and host {FAR6}", lambda: ping(FAR6)),
    "udp4": Kind("udp port 4002", lambda: udp(FAR, 4002)),
    "udp6": Kind("udp port 4004", lambda: udp(FAR6, 4004)),
    "tcp4": Kind("tcp port 4102", lambda: tcp(FAR, 4102)),
    "tcp6": Kind("tcp port 4104", lambda: tcp(FAR6, 4104)),
    "dnat": Kind(f"tcp and host {DNAT}", lambda: curl(DNAT, 80, 4201)),
    "snat": Kind("tcp port 81", lambda: curl(FAR, 81, 4202)),
    "vxlan": Kind("udp port 4789", lambda: ping(inner("vxlan")[1])),
    "gre": Kind("ip proto 47", lambda: ping(inner("gre")[1])),
    "ipip": Kind("ip proto 4", lambda: ping(inner("ipip")[1])),
    "geneve": Kind("udp port 6081", lambda: ping(inner("geneve")[1])),
    "vlan": Kind(f"icmp and host {inner('vlan')[1]}", lambda: ping(inner("vlan")[1])),
    "bridge": Kind(f"icmp and host {inner('bridge')[1]}", lambda: ping(inner("bridge")[1])),
    "arp": Kind("arp", arp),
    "drop_nft": Kind("udp port 9", lambda: udp(FAR, 9, answered=False)),
    "drop_legacy": Kind("udp port 10", lambda: udp(FAR, 10, answered=False)),
    "sctp": Kind("sctp", sctp),
    "fragments4": Kind("ip[6:2] & 0x3fff != 0", lambda: udp(FAR, 4302, 3000)),
    "fragments6": Kind("ip6[6] = 44", lambda: udp(FAR6, 4304, 3000)),
    "mirrored": Kind(f"icmp and host {ROUTER}", mirrored),
    "segments": Kind("tcp port 4402", lambda: tcp(inner("bridge")[1], 4402, 20000)),
}


def main() -> None:
    topology.wire()
    topology.attach_programs(topology.build_programs(Path("/run")))
    for name in sys.argv[1:] or KINDS:
        began = time.monotonic()
        KINDS[name].send()
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
