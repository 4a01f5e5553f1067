"""Filters of bytes in page fragments, compared with tcpdump on the same interface."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP

from tests.native.tracing import Line, Network, network, tracing
from tests.support.need import need

pytestmark = pytest.mark.native

PAYLOAD = "tcp[((tcp[12:1] & 0xf0) >> 2):4]"
GET, POST = "0x47455420", "0x504f5354"
RECEIVED = "tp:netif_receive_skb"
UDP_CORK = 1  # linux/udp.h
MARK = b"\x12\x34\x56\x78"
MARK_VALUE = "0x12345678"


@contextlib.contextmanager
def tcpdump(expression: str, last: str) -> Iterator[list[str]]:
    """Run tcpdump on loopback; yield its lines, complete at the end; the last one has ``last``."""
    words = ["tcpdump", "-O", "-i", "lo", "-nn", "--immediate-mode", "-U", "-B", "65536", "-l"]
    lines: list[str] = []
    with subprocess.Popen(
        [*words, expression], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr and process.stdout
        while "listening on" not in (line := process.stderr.readline()):
            assert line, "tcpdump ended"
        try:
            yield lines
            while last not in (line := process.stdout.readline()):
                assert line, "tcpdump ended"
                lines.append(line)
        finally:
            process.kill()


def ports_of_tcpdump(lines: list[str]) -> Counter[tuple[int, int]]:
    """Count packets by ports."""
    found = (re.search(r"\.(\d+) > \S+\.(\d+): ", line) for line in lines)
    return Counter((int(each[1]), int(each[2])) for each in found if each)


def ports_of_pypwru(lines: list[Line]) -> Counter[tuple[int, int]]:
    found = (
        re.search(r":(\d+)->.*:(\d+)\(", line.tuple) for line in lines if line.func == RECEIVED
    )
    return Counter((int(each[1]), int(each[2])) for each in found if each)


def exchange(server: socket.socket, *parts: bytes, how: str) -> None:
    """Send ``parts`` by a connection, one call each; it sends a reply."""
    with socket.create_connection(server.getsockname()[:2]) as one, server.accept()[0] as other:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        left = sum(map(len, parts))
        sending = threading.Thread(target=send, args=(one, parts, how))
        sending.start()
        while left:
            received = other.recv(min(left, 1 << 20))
            assert received, f"the connection ended {left} bytes early"
            left -= len(received)
        sending.join()
        other.sendall(b"HTTP/1.0 200")
        assert one.recv(100)


def send(sender: socket.socket, parts: tuple[bytes, ...], how: str) -> None:
    for part in parts:
        if how == "sendfile":
            with tempfile.TemporaryFile() as file:  # pages of the page cache
                file.write(part)
                file.flush()
                sender.sendfile(file)
        elif how == "sendmsg":  # of many small buffers
            sender.sendmsg([part[start : start + 7] for start in range(0, len(part), 7)][:1000])
        else:
            sender.sendall(part)


@contextlib.contextmanager
def server(family: socket.AddressFamily) -> Iterator[socket.socket]:
    address = "127.0.0.1" if family is socket.AF_INET else "::1"
    with socket.socket(family) as made:
        made.bind((address, 0))
        made.listen()
        yield made


def requests(made: socket.socket) -> None:
    for how in ("sendall", "sendfile", "sendmsg"):
        exchange(made, b"GET / HTTP/1.1\r\n\r\n", how=how)
        exchange(made, b"POST / HTTP/1.1\r\n\r\n" + bytes(5000), how=how)
        exchange(made, b"GE", b"T / HTTP/1.1\r\n\r\n", how=how)
        exchange(made, bytes(100) + b"GET ", b"GET " + bytes(4000), how=how)
    for size in (1_000, 3_000, 8_000, 12_000, 15_000):
        exchange(made, os.urandom(size) + MARK, how="sendall")


@pytest.mark.parametrize(
    ("family", "expression"),
    [
        (socket.AF_INET, f"{PAYLOAD} = {GET}"),
        (socket.AF_INET, f"{PAYLOAD} = {POST} or {PAYLOAD} = {GET}"),
        (socket.AF_INET, f"not ({PAYLOAD} = {GET}) and ip[2:2] > 80"),
        (socket.AF_INET, f"ip[ip[2:2] - 4:4] = {MARK_VALUE}"),
        (socket.AF_INET, f"ip[52:4] = {GET}"),
        (socket.AF_INET, "ip[1000] | 1 != 0 and ip[7000] | 1 != 0"),
        (socket.AF_INET6, f"ip6[72:4] = {GET}"),
        (socket.AF_INET6, f"ip6[ip6[4:2] + 36:4] = {MARK_VALUE}"),
    ],
)
def test_payload_matches_as_tcpdump(family: socket.AddressFamily, expression: str) -> None:
    need(os.geteuid() == 0, "root, for tcpdump")
    with server(family) as made:
        port = made.getsockname()[1]
        filtered = f"tcp port {port} and ({expression}) or udp port {port}"
        with tracing(filtered) as run, tcpdump(filtered, "UDP") as lines:
            requests(made)
            with socket.socket(family, socket.SOCK_DGRAM) as one:
                one.sendto(b"the last", made.getsockname()[:2])
    assert run.status == 0, run.stderr
    theirs = ports_of_tcpdump(lines)
    assert len(theirs) >= 3
    assert ports_of_pypwru([line for line in run.lines if "(tcp)" in line.tuple]) == theirs


def test_reassembled_datagram_is_read(net: Network) -> None:
    """The fragments of a datagram are a list of sk_buffs; the oracle is the sender."""
    code = f"""
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for number in range(5):
        sender.sendto(bytes(3000) + bytes([number]) * 2000, ("{net.v4(2)}", 9000 + number))
"""
    with tracing(f"udp and dst host {net.v4(2)} and udp[8 + 3500:4] = 0x03030303") as run:
        found = net.run(sys.executable, "-c", code)
        assert found.returncode == 0, found.stderr
    assert run.status == 0, run.stderr
    ports = {line.tuple.rpartition(":")[2] for line in run.lines}
    assert ports == {"9003(udp)"}
    assert any(line.func.startswith("tp:kfree_skb") for line in run.lines)


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def corked(sender: socket.socket, header: bytes, rest: bytes) -> None:
    """Send one datagram whose ``rest`` stays in pages of the page cache."""
    sender.setsockopt(socket.SOL_UDP, UDP_CORK, 1)
    sender.send(header)
    with tempfile.TemporaryFile() as file:
        file.write(rest)
        file.flush()
        os.sendfile(sender.fileno(), file.fileno(), 0, len(rest))
    sender.setsockopt(socket.SOL_UDP, UDP_CORK, 0)


@pytest.mark.parametrize(("inner_filter", "count"), [("icmp and src host 10.9.0.1", 2), ("udp", 0)])
def test_inner_packet_in_fragments(inner_filter: str, count: int) -> None:
    """One packet is linear; of the other, only the outer headers are."""
    inner = bytes(IP(src="10.9.0.1", dst="10.9.0.2") / ICMP() / bytes(20))
    header, frame = b"\x08\0\0\0\0\0\x2a\0", bytes(12) + b"\x08\0" + inner
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.9", 4789))
        sender.connect(("127.0.0.9", 4789))
        words = [f"--filter-tunnel-pcap-l3={inner_filter}", "udp and dst host 127.0.0.9"]
        with tracing(*words) as run:
            sender.send(header + frame)
            corked(sender, header, frame)
            assert receiver.recv(1000) == receiver.recv(1000) == header + frame
    assert run.status == 0, run.stderr
    assert sum(line.func == RECEIVED for line in run.lines) == count
