"""--output-pcap by tracepoints on this kernel's loopback: its bytes are those of tcpdump."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.native.rule_namespaces import until
from tests.native.tracing import TIMEOUT, Network, Run, network, tracing
from tests.support.captures import SNAPLEN, check, differences, octets, packets, tshark
from tests.support.need import need

pytestmark = pytest.mark.native

# Streams of 300,000 octets and datagrams of 1000 and 60,000, by IPv4 and IPv6. Segments are small
# enough for GSO packets below 64 KiB: a larger one is cut up behind its first tracepoint.
TRAFFIC = """
import socket, threading
data = b"".join(b"%08x" % place for place in range(0, 300000, 8))[:300000]
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.socket(family) as listener, socket.socket(family) as client:
        for each in (listener, client):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 8000)
        listener.bind((address, 0))
        listener.listen()
        def swallow():
            with listener.accept()[0] as connection:
                while connection.recv(1 << 20):
                    pass
        thread = threading.Thread(target=swallow)
        thread.start()
        client.connect(listener.getsockname())
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
        thread.join()
    with socket.socket(family, socket.SOCK_DGRAM) as both:
        both.bind((address, 0))
        for size in (1000, 60000):
            both.sendto(data[:size], both.getsockname())
            both.recv(1 << 16)
"""
_PROTOCOL = 14 + 9  # where it is behind an Ethernet header in that of IPv4
SENT = ("tp:net_dev_queue",)
RECEIVED = ("tp:netif_receive_skb",)
KINDS = {
    "tcp": 20,
    "tcp && frame.len > 20000": 4,
    "udp": 4,
    "udp.length > 60000": 2,
    "icmp": 6,
    "icmpv6": 6,
    "ipv6 && tcp": 8,
}


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


@contextlib.contextmanager
def dumping(net: Network, file: Path) -> Iterator[None]:
    """Run tcpdump on lo; packets of the block are in the file afterwards."""
    need(shutil.which("tcpdump"), "tcpdump (package tcpdump)")
    log = file.with_suffix(".err")
    words = f"tcpdump -i lo -n -s {SNAPLEN} -B 65536 --immediate-mode -U -Z root -w".split()
    with log.open("wb") as err:
        process = subprocess.Popen(["ip", "netns", "exec", net.left, *words, file], stderr=err)
    try:
        until(lambda: "listening on" in log.read_text())
        yield
        until(lambda: _has_the_end(file))
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
        assert "\n0 packets dropped by kernel" in log.read_text()
    finally:
        process.kill()
        process.wait()


END = b"the end of the traffic"


def _has_the_end(file: Path) -> bool:
    return END in file.read_bytes()[-200:]


def send_all(net: Network) -> None:
    for address in ("127.0.0.1", "::1"):
        net.ping(address, "-c", "3", "-i", "0.01")
    done = net.run(sys.executable, "-c", TRAFFIC)
    assert done.returncode == 0, done.stderr
    last = (
        f"import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto({END!r}, ('127.0.0.1', 9))"
    )
    done = net.run(sys.executable, "-c", last)
    assert done.returncode == 0, done.stderr


def captured(net: Network, folder: Path, file: Path, *words: str) -> tuple[Run, list[bytes]]:
    """Return a run that wrote the traffic to ``file``, and tcpdump's packets, without ICMP's error
    for the last datagram.
    """
    dumped = folder / "tcpdump.pcap"
    flags = ("--output-pcap", str(file), "--pcap-snaplen", str(SNAPLEN), *words)
    echo = "icmp[icmptype] = 8 or icmp[icmptype] = 0 or (icmp6 and ip6[40] & 254 = 128)"
    with (
        tracing(*flags, "--filter-netns", net.left, f"tcp or udp or {echo}") as run,
        dumping(net, dumped),
    ):
        send_all(net)
    assert run.status == 0
    assert run.done["lost_ring_full"] == 0
    return run, [
        one for one in octets(dumped) if END not in one or one[_PROTOCOL] == socket.IPPROTO_UDP
    ]


@pytest.mark.parametrize(
    ("when", "functions"),
    [("first", SENT), ("tp:netif_receive_skb", RECEIVED), ("every", SENT), ("every", RECEIVED)],
)
def test_packets_are_those_of_tcpdump(
    net: Network,
    tmp_path: Path,
    when: str,
    functions: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "own.pcapng"
    _, theirs = captured(net, tmp_path, file, "--pcap-when", when)

    check(file)
    found = packets(file)
    inode = net.inode(net.left)
    ours = [
        one.octets
        for one in found
        if one.func in functions and (one.netns, one.interface) == (inode, "lo")
    ]
    wrong = differences(ours, theirs)
    with capsys.disabled():
        print(f"\n{when}, {functions[0]}: {len(theirs)} packets, differences {len(wrong)}")
    assert not wrong, "\n".join(wrong[:20])
    assert all(one.length == len(one.octets) for one in found)
    if when not in ("first", "every"):
        assert len(ours) == len(found)
    for expression, least in KINDS.items():
        assert tshark(file, "-Y", expression).count("\n") >= least, expression


def test_packets_of_classic_pcap(net: Network, tmp_path: Path) -> None:
    file = tmp_path / "own.pcap"
    _, theirs = captured(net, tmp_path, file, "--pcap-when", "tp:netif_receive_skb")
    check(file)
    assert differences(octets(file), theirs) == []


def test_first_writes_each_packet_once(net: Network, tmp_path: Path) -> None:
    """No sk_buff occurs twice before it is freed, as the lines show."""
    file = tmp_path / "own.pcapng"
    run, _ = captured(net, tmp_path, file)
    queued = [line.skb for line in run.lines if line.func in SENT]
    assert [one.skb for one in packets(file) if one.func in SENT] == queued
