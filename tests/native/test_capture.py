"""The packet data of handlers is that of a packet socket."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from pypwru.pcap.packet_data import PacketCapture
from tests.native.tracing import Network, ip, need_tracing, network, set_up_silent
from tests.support.packet_sockets import OUTGOING, CapturedRecord, PacketSocket, captures, capturing

pytestmark = pytest.mark.native
TRACEPOINT = "--backend=tracepoint"
SENT = "tp:net_dev_start_xmit"


@pytest.fixture(autouse=True)
def _can_trace() -> None:
    need_tracing()


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two devices joined by a wire, without addresses."""
    one, other = f"pc{os.getpid() % 65536}a", f"pc{os.getpid() % 65536}b"
    ip("link", "add", one, "type", "veth", "peer", "name", other)
    try:
        for name in (one, other):
            set_up_silent(name)
        yield one, other
    finally:
        ip("link", "del", one)


def bytes_of(all: list[PacketCapture]) -> Counter[bytes]:
    return Counter(one.data for one in all)


def outgoing(link: PacketSocket, port: int) -> Counter[bytes]:
    """Return what the socket has of the test's own traffic."""
    return Counter(
        frame.octets
        for frame in link.frames()
        if frame.kind == OUTGOING and is_of_port(frame.octets, port)
    )


def is_of_port(frame: bytes, port: int) -> bool:
    """Return whether it is TCP or UDP of this port, without options or extensions of IP."""
    l4 = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 1 << 30)
    return port in struct.unpack_from("!HH", frame + bytes(1 << 6), min(l4, len(frame)))


def stream(family: socket.AddressFamily, address: str, octets: int, how: str) -> int:
    """Send so many bytes over loopback, there and back; return the port."""
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port: int = listener.getsockname()[1]
        with socket.create_connection((address, port)) as sender, listener.accept()[0] as receiver:
            sending = threading.Thread(target=send, args=(sender, octets, how))
            sending.start()
            left = octets
            while left:
                left -= len(receiver.recv(min(left, 1 << 20)))
            sending.join()
            receiver.sendall(b"thanks")
            assert sender.recv(6) == b"thanks"
    return port


def send(sender: socket.socket, octets: int, how: str) -> None:
    if how == "sendall":
        sender.sendall(os.urandom(octets))
        return
    with tempfile.TemporaryFile() as file:  # pages of the page cache
        file.write(os.urandom(octets))
        file.flush()
        sender.sendfile(file)


@pytest.mark.parametrize("how", ["sendall", "sendfile"])
@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_data_in_page_fragments_is_captured(
    family: socket.AddressFamily, address: str, how: str
) -> None:
    """At the tracepoint next to the packet socket's own hook, after segmentation."""
    words = [TRACEPOINT, "--pcap-snaplen=262144", "--buffer-size=64M", f"--pcap-when={SENT}", "tcp"]
    with PacketSocket("lo") as link, capturing(*words) as session:
        port = stream(family, address, 3_000_000, how)
        session.read()
        ours = [one for one in captures(session.events) if is_of_port(one.data, port)]
        theirs = outgoing(link, port)
    assert max(map(len, theirs)) > 20_000, "no packet was large"
    assert bytes_of(ours) == theirs
    assert all(one.length == len(one.data) and one.layer == 2 for one in ours)
    print(f"{how} {address}: {len(ours)} packets, {sum(len(one.data) for one in ours)} bytes")


@contextlib.contextmanager
def datagrams() -> Iterator[tuple[int, Callable[[int], None]]]:
    """Yield a port of loopback, and a function that sends a datagram of so many bytes to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]

        def send(size: int) -> None:
            one.sendto(os.urandom(size), ("127.0.0.1", port))

        yield port, send


SIZES = (0, 1, 200, 256, 257, 1400, 1536, 1537, 4096, 4097, 20000, 65507)


def test_each_packet_is_captured_once() -> None:
    words = [TRACEPOINT, "--pcap-snaplen=65549", "udp"]
    with datagrams() as (port, send), PacketSocket("lo") as link, capturing(*words) as session:
        for size in SIZES:
            send(size)
        session.read()
        ours = [one for one in captures(session.events) if is_of_port(one.data, port)]
        theirs = outgoing(link, port)
    assert sum(theirs.values()) == len(SIZES)
    assert bytes_of(ours) == theirs
    assert all(one.is_first and one.device_type == 772 for one in ours)


def test_packets_in_reused_memory_are_captured() -> None:
    """One is freed before the next is made: mostly its address and its memory are reused."""
    own = f"127.{os.getpid() >> 8 & 255}.{os.getpid() & 255}.2"
    words = [TRACEPOINT, f"icmp and host {own}"]
    with PacketSocket("lo") as link, capturing(*words) as session:
        ping = ["ping", "-q", "-c", "200", "-i", "0.002", own]
        found = subprocess.run(ping, check=True, capture_output=True)
        session.read()
        ours = bytes_of(captures(session.events))
        own_frames = [one for one in link.frames() if socket.inet_aton(own) in one.octets[26:34]]
        theirs = Counter(one.octets for one in own_frames if one.kind == OUTGOING)
    assert b"200 received" in found.stdout
    assert sum(theirs.values()) == 400
    assert ours == theirs


@pytest.mark.parametrize("snaplen", [1, 60, 1500])
def test_snaplen_limits_data(snaplen: int) -> None:
    words = [TRACEPOINT, f"--pcap-snaplen={snaplen}"]
    with (
        datagrams() as (port, send),
        PacketSocket("lo") as link,
        capturing(*words, f"udp port {port}") as session,
    ):
        send(0)
        send(20000)
        session.read()
        theirs = Counter((one[:snaplen], len(one)) for one in outgoing(link, port))
        assert Counter((one.data, one.length) for one in captures(session.events)) == theirs
        assert session.account()["capture_truncated"] == 0


def test_tag_inside_frame_is_captured(pair: tuple[str, str]) -> None:
    """The receiver takes it out only after this tracepoint."""
    own = b"\x02\0" + os.getpid().to_bytes(4, "big")
    frame = b"\xff" * 6 + own + b"\x88\xb5" + os.urandom(100)
    tagged = frame[:12] + struct.pack("!HH", 0x8100, 0x6005) + frame[12:]
    words = [TRACEPOINT, "--pcap-when=every", f"ether src {own.hex(':')}"]
    with PacketSocket(pair[0]) as sender, capturing(*words) as session:
        sender.send(frame)
        sender.send(tagged)
        session.until(lambda events: len(at(events, "tp:netif_receive_skb", frame)) >= 2)
    for name in (SENT, "tp:netif_receive_skb"):
        found = at(session.events, name, frame)
        assert [(one.data, one.vlan_tag, one.device_type) for one in found] == [
            (frame, 0, 1),
            (tagged, 0, 1),
        ]


def at(events: Sequence[CapturedRecord], name: str, frame: bytes) -> list[PacketCapture]:
    return [
        one.capture
        for one in events
        if one.name == name and one.capture and one.capture.data.endswith(frame[14:])
    ]


def test_reassembled_packet_is_captured_whole(net: Network) -> None:
    """The fragments after the first are on its frag_list."""
    content = os.urandom(20000)
    script = (
        "import socket, sys\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:\n"
        "    sender.sendto(sys.stdin.buffer.read(), (sys.argv[1], 9))\n"
    )
    words = [TRACEPOINT, "--pcap-when=every", f"udp and dst host {net.v4(2)}"]
    with capturing(*words) as session:
        subprocess.run(
            ["ip", "netns", "exec", net.left, sys.executable, "-c", script, net.v4(2)],
            input=content,
            check=True,
        )
        session.until(lambda events: any(len(one.data) > 20000 for one in captures(events)))
    whole = [one for one in captures(session.events) if one.length > 20000]
    assert {one.data[-len(content) :] for one in whole} == {content}
    assert {(one.length, len(one.data), one.layer) for one in whole} == {(20042, 20042, 2)}
    parts = [one for one in captures(session.events) if one.length < 1600]
    assert len(parts) >= 14


@pytest.mark.parametrize("size", [4096, 1 << 16])
def test_captured_and_lost_are_all_packets(size: int) -> None:
    """The oracle is the count of the sender; the ring isn't read for most of the time."""
    words = [
        TRACEPOINT,
        f"--buffer-size={size}",
        "--pcap-when=every",
        "--filter-func=net_dev_queue",
    ]
    with datagrams() as (port, send), capturing(*words, f"udp port {port}") as session:
        for index in range(3000):
            send(index % 3000)
            if index % 700 == 0:
                session.read()
        session.read()
        done, ours = session.account(), captures(session.events)
    assert done["capture_requested"] == 3000 == len(ours) + done["lost_packets"]
    # Losses after the last captured packet are in the counter only.
    assert 0 < sum(one.lost_before for one in ours) <= done["lost_packets"]
    assert all(len(one.data) <= one.length for one in ours)
    print(f"{size}: {len(ours)} captured, {done}")
