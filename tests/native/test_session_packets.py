"""Events of a real run: which packets match, and their columns."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    fragment6,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, LLC, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from tests.native.tracing import TIMEOUT, Line, Network, ip, network, set_up_silent, tracing

pytestmark = pytest.mark.native

# Sends one datagram of argv[3] bytes to argv[1], port argv[2].
DATAGRAM = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sender:
    sender.sendto(bytes(int(sys.argv[3])), (sys.argv[1], int(sys.argv[2])))
"""

# Reads packets of the device argv[1] until one from the MAC address argv[2] with IPv4 or a tag.
TAP = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
    tap.bind((sys.argv[1], 3))
    print(flush=True)
    sender = bytes.fromhex(sys.argv[2].replace(":", ""))
    while True:
        frame = tap.recv(65536)
        if frame[6:12] == sender and frame[12:14] == bytes.fromhex("0800"):
            break
"""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def datagram(net: Network, address: str, port: int = 9999, size: int = 4) -> None:
    found = net.run(sys.executable, "-c", DATAGRAM, address, str(port), str(size))
    assert found.returncode == 0, found.stderr


def traced_lines(net: Network, expression: str, frames: list[Packet]) -> list[Line]:
    """Return the lines of a run with ``expression`` of ``frames``, sent by left."""
    with tracing(expression) as run:
        net.send([bytes(frame) for frame in frames])
    assert run.status == 0, run.stderr
    return run.lines


def test_ping_passes_tracepoints_in_order(net: Network) -> None:
    with tracing(f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2))
    assert run.status == 0
    request = [line for line in run.lines if line.tuple.startswith(net.v4(1))]
    reply = [line for line in run.lines if line.tuple.startswith(net.v4(2))]
    assert {line.tuple for line in request} == {f"{net.v4(1)}:0->{net.v4(2)}:0(icmp)"}
    assert {line.tuple for line in reply} == {f"{net.v4(2)}:0->{net.v4(1)}:0(icmp)"}
    functions = [line.func for line in request]
    path = ["tp:net_dev_queue", "tp:net_dev_start_xmit", "tp:netif_rx", "tp:netif_receive_skb"]
    assert [function for function in functions if function in path] == path
    assert all(function.startswith("tp:") for function in functions)


def test_columns_of_ping(net: Network) -> None:
    with tracing(f"icmp and src {net.v4(1)}") as run:
        net.ping(net.v4(2), "-s", "100", "-m", str(0xBEEF))
    sent = next(line for line in run.lines if line.func == "tp:net_dev_queue")
    assert int(sent.skb, 16) >> 47 == 0x1FFFF  # in the kernel's half
    assert 0 <= int(sent.cpu) < (os.cpu_count() or 1)
    assert sent.process.startswith("ping:") or "ping:" in sent.process
    assert sent.netns == net.inode(net.left)
    assert sent.mark == "beef"
    assert sent.iface == f"{net.left}:{_ifindex(net)}"
    assert (sent.proto, sent.mtu, sent.len) == ("0x0800", "1500", str(14 + 20 + 8 + 100))
    received = next(line for line in run.lines if line.func == "tp:netif_receive_skb")
    assert received.iface.startswith(f"{net.right}:")
    assert received.netns == net.inode(net.right)
    assert received.len == str(20 + 8 + 100)
    assert "packets" not in run.done  # without packet_ids packets aren't counted
    assert run.done["events"] == run.done["produced"] == len(run.lines)


def _ifindex(net: Network) -> int:
    found = net.run("cat", f"/sys/class/net/{net.left}/ifindex")
    return int(found.stdout)


def test_packets_that_do_not_match_have_no_events(net: Network) -> None:
    with tracing(f"icmp and host {net.v4(2)}") as run:
        datagram(net, net.v4(9))  # of no host: no ICMP answer either
        datagram(net, net.v4(1))  # refused by loopback: icmp, but of another host
    assert run.lines == []
    assert run.done["produced"] == 0
    with tracing(f"udp and host {net.v4(1)}") as run:
        net.ping(net.v4(2))
        datagram(net, net.v4(1), 9)
    assert {line.tuple.rpartition("(")[2] for line in run.lines} == {"udp)"}


def test_drop_event_has_reason(net: Network) -> None:
    with tracing(f"udp and dst host {net.v4(1)} and dst port 9") as run:
        datagram(net, net.v4(1), 9)
    dropped = [line.func for line in run.lines if line.func.startswith("tp:kfree_skb")]
    assert dropped == ["tp:kfree_skb(SKB_DROP_REASON_NO_SOCKET)"]


# A socket that is never read, until standard input is closed.
UNREAD = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)):
    print(flush=True)
    sys.stdin.read()
"""


def test_location_of_purged_queue_is_caller(net: Network) -> None:
    """packet_release() of net/packet/af_packet.c, not the function that goes through the queue."""
    words = ["ip", "netns", "exec", net.right, sys.executable, "-c", UNREAD]
    with (
        tracing("--drops", "--output-json", f"icmp and host {net.v4(2)}") as run,
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader,
    ):
        assert reader.stdout
        reader.stdout.readline()
        net.ping(net.v4(2))
        reader.communicate()
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    purged = [row["location"] for row in rows if "QUEUE_PURGE" in row["func"]]
    assert purged
    assert {location.partition("+")[0] for location in purged} == {"packet_release"}


def test_tuple_of_icmp6(net: Network) -> None:
    with tracing(f"icmp6 and host {net.v6(2)} and ip6[40] >= 128 and ip6[40] <= 129") as run:
        net.ping(net.v6(2))
    ends = f"[{net.v6(1)}]:0", f"[{net.v6(2)}]:0"
    assert {line.tuple for line in run.lines} == {
        f"{ends[0]}->{ends[1]}(icmp6)",
        f"{ends[1]}->{ends[0]}(icmp6)",
    }
    assert {line.proto for line in run.lines} == {"0x86dd"}


def ether(net: Network) -> Packet:
    return Ether(src=net.mac(1), dst=net.mac(2))


def v6(net: Network) -> Packet:
    return ether(net) / IPv6(src=net.v6(1), dst=net.v6(2))


EXTENSIONS = {
    "hop by hop": IPv6ExtHdrHopByHop(),
    "destination": IPv6ExtHdrDestOpt(),
    "routing": IPv6ExtHdrRouting(segleft=0),
    "atomic fragment": IPv6ExtHdrFragment(),
    "AH": AH(nh=17, payloadlen=4, icv=bytes(12)),
    "four": IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt()
    / AH(nh=44, payloadlen=4, icv=bytes(12))
    / IPv6ExtHdrFragment(),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_tuple_skips_extension_headers(net: Network, name: str) -> None:
    frame = v6(net) / EXTENSIONS[name] / UDP(sport=1000, dport=2000) / Raw(b"payload")
    lines = traced_lines(net, f"ip6 host {net.v6(2)} and not icmp6", [frame])
    assert {line.tuple for line in lines} == {f"[{net.v6(1)}]:1000->[{net.v6(2)}]:2000(udp)"}


def test_tuple_of_ipv4_fragments(net: Network) -> None:
    whole = IP(src=net.v4(1), dst=net.v4(2), id=7) / UDP(sport=1000, dport=2000) / Raw(bytes(100))
    frames = [ether(net) / part for part in fragment(whole, fragsize=64)]
    assert len(frames) == 2
    lines = traced_lines(net, f"ip[6:2] & 0x3fff != 0 and host {net.v4(2)}", frames)
    on_wire = [line.tuple for line in lines if line.func == "tp:net_dev_queue"]
    first = f"{net.v4(1)}:1000->{net.v4(2)}:2000(udp)"
    assert on_wire == [first, f"{net.v4(1)}:0->{net.v4(2)}:0(udp)"]


def test_tuple_of_ipv6_fragments(net: Network) -> None:
    whole = IPv6(src=net.v6(1), dst=net.v6(2)) / IPv6ExtHdrFragment()
    parts = fragment6(whole / UDP(sport=1000, dport=2000) / Raw(bytes(200)), 160)
    frames = [ether(net) / part for part in parts]
    assert len(frames) >= 2
    lines = traced_lines(net, f"ip6 host {net.v6(2)} and ip6[6] = 44", frames)
    on_wire = [line.tuple for line in lines if line.func == "tp:net_dev_queue"]
    later = f"[{net.v6(1)}]:0->[{net.v6(2)}]:0(udp)"
    assert on_wire == [f"[{net.v6(1)}]:1000->[{net.v6(2)}]:2000(udp)"] + [later] * (len(frames) - 1)


def test_tuple_skips_ipv4_options(net: Network) -> None:
    header = IP(src=net.v4(1), dst=net.v4(2), options=b"\x01" * 8)
    lines = traced_lines(
        net, f"host {net.v4(2)} and udp", [ether(net) / header / UDP(sport=5, dport=6)]
    )
    assert {line.tuple for line in lines} == {f"{net.v4(1)}:5->{net.v4(2)}:6(udp)"}


def test_output_tcp_flags(net: Network) -> None:
    with tracing("--output-tcp-flags", f"tcp and host {net.v4(1)} and port 9") as run:
        net.run(
            sys.executable, "-c", f"import socket; socket.create_connection(({net.v4(1)!r}, 9))"
        )
    words = {line.tuple.rpartition("(")[2] for line in run.lines}
    assert words == {"tcp:SYN)", "tcp:RST|ACK)"}


# By the numbers of IEEE and IANA none of these is IP, although each begins as such a header does.
NO_IP = {
    "spanning tree": LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(),
    "MPLS": Ether(type=0x8847) / Raw(bytes.fromhex("4500013f") + bytes(40)),
    "experiment": Ether(type=0x88B5) / Raw(b"\x60" + bytes(63)),
    "MPLS in a VLAN": Dot1Q(vlan=10, type=0x8847) / Raw(b"\x45" + bytes(63)),
    "MPLS in two": Dot1AD(vlan=9) / Dot1Q(vlan=10, type=0x8847) / Raw(b"\x60" + bytes(63)),
}


@pytest.mark.parametrize("name", NO_IP)
def test_tuple_without_ip_is_empty(net: Network, name: str) -> None:
    inner = NO_IP[name]
    head = ether(net)
    if isinstance(inner, Ether):
        head.type, inner = inner.type, inner.payload
    frame = Dot3(src=head.src, dst=head.dst) / inner if name == "spanning tree" else head / inner
    lines = traced_lines(net, f"ether src {net.mac(1)} and not arp and not ip6", [frame])
    assert len(lines) >= 4
    assert {line.tuple for line in lines} == {":0->:0()"}


@pytest.mark.parametrize("tags", [Dot1Q(vlan=10), Dot1AD(vlan=9) / Dot1Q(vlan=10)], ids=len)
def test_tuple_skips_vlan_tags(net: Network, tags: Packet) -> None:
    inner = IP(src=net.v4(1), dst=net.v4(2)) / UDP(sport=5, dport=6)
    words = f"ether src {net.mac(1)} and not arp and not ip6"
    lines = traced_lines(net, words, [ether(net) / tags / inner])
    assert len(lines) >= 4
    assert {line.tuple for line in lines} == {f"{net.v4(1)}:5->{net.v4(2)}:6(udp)"}


def test_tunnel_tuple_without_ip_is_empty(net: Network) -> None:
    """One of the frames in VXLAN is IP; both have the tunnel's own addresses."""
    ends = ("local", net.v4(1), "remote", net.v4(2), "dstport", "4789")
    ip("-n", net.left, "link", "add", "vx", "type", "vxlan", "id", "7", *ends)
    set_up_silent("vx", net.left)
    inner = Ether(src="02:00:00:00:77:01", dst="02:00:00:00:77:02")
    frames = [
        inner / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=5, dport=6),
        inner.copy() / Raw(bytes.fromhex("4500013f") + bytes(40)),
    ]
    frames[1].type = 0x8847
    words = ("--output-json", "--output-tunnel", "--filter-func=net_dev_queue")
    with tracing(*words, f"udp port 4789 and host {net.v4(1)}") as run:
        net.send([bytes(frame) for frame in frames], "vx")
    ip("-n", net.left, "link", "del", "vx")
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert {row["tuple"]["daddr"] for row in rows} == {net.v4(2)}
    ip_inside, mpls_inside = (row["tunnel_tuple"] for row in rows if row["iface"].startswith("pw"))
    assert (ip_inside["saddr"], ip_inside["dport"]) == ("192.0.2.1", 6)
    assert mpls_inside == {}


TAGGED = "tp:skb_copy_datagram_iovec"  # what a tap reads; its tag is in skb->vlan_tci by then


def tapped(net: Network, expression: str) -> list[Line]:
    """Return lines of a frame of VLAN 10 that a tap of right reads: reception moves the tag out of
    it.
    """
    frame = ether(net) / Dot1Q(vlan=10) / IP(src=net.v4(1), dst=net.v4(2)) / UDP(sport=5, dport=6)
    tap = subprocess.Popen(
        ["ip", "netns", "exec", net.right, sys.executable, "-c", TAP, net.right, net.mac(1)],
        stdout=subprocess.PIPE,
    )
    with tap, tracing(f"{expression} and udp and host {net.v4(2)}") as run:
        assert tap.stdout and tap.stdout.readline()
        net.send([bytes(frame)])
        assert tap.wait(TIMEOUT) == 0
    assert run.status == 0
    return run.lines


def test_vlan_matches_tag_in_and_beside_frame(net: Network) -> None:
    lines = tapped(net, "vlan 10")
    assert {line.proto for line in lines if line.func == "tp:net_dev_queue"} == {"0x8100"}
    assert {line.proto for line in lines if line.func == TAGGED} == {"0x0800"}
    assert {line.tuple for line in lines} == {f"{net.v4(1)}:5->{net.v4(2)}:6(udp)"}


def test_other_vlan_does_not_match(net: Network) -> None:
    assert tapped(net, "vlan 11") == []


def test_not_vlan_matches_after_tag_is_cleared(net: Network) -> None:
    """Only the events after the stack, which has no VLAN 10, are without the tag."""
    functions = {line.func for line in tapped(net, "not vlan")}
    assert TAGGED not in functions
    assert all(function.startswith(("tp:kfree_skb", "tp:consume_skb")) for function in functions)


def test_arp_matches_on_transmit(net: Network) -> None:
    who_has = ARP(psrc=net.v4(1), pdst=net.v4(2), hwsrc=net.mac(1))
    lines = traced_lines(net, f"arp and host {net.v4(2)}", [Ether(src=net.mac(1)) / who_has])
    sent = [line for line in lines if line.func == "tp:net_dev_queue"]
    assert [(line.iface.partition(":")[0], line.proto) for line in sent][:1] == [
        (net.left, "0x0806")
    ]


def test_ether_dst_matches_on_transmit(net: Network) -> None:
    with tracing(f"ether dst {net.mac(2)} and icmp") as run:
        net.ping(net.v4(2))
    functions = [line.func for line in run.lines]
    assert "tp:net_dev_queue" in functions
    assert {line.tuple for line in run.lines} == {f"{net.v4(1)}:0->{net.v4(2)}:0(icmp)"}


@pytest.mark.parametrize(
    ("expression", "shown"),
    [("len = 142", True), ("len = 141", False), ("greater 142", True), ("greater 143", False)],
)
def test_len_is_of_whole_frame(net: Network, expression: str, shown: bool) -> None:
    """An Ethernet header (14), IPv4 (20), UDP (8) and 100 bytes."""
    port = random.randrange(20000, 30000)
    with tracing(f"({expression}) and udp and dst port {port} and host {net.v4(2)}") as run:
        datagram(net, net.v4(2), port, size=100)
    sent = [line for line in run.lines if line.func == "tp:net_dev_queue"]
    assert [line.len for line in sent] == (["142"] if shown else [])


def test_signal_drains_ring(net: Network) -> None:
    """The signal follows the last datagram before the ring is polled again."""
    frame = ether(net) / IP(src=net.v4(1), dst=net.v4(2)) / UDP(sport=5, dport=77)
    with tracing(f"udp and dst port 77 and host {net.v4(2)}", stop=signal.SIGTERM) as run:
        net.send([bytes(frame)] * 200)
    assert run.status == 0
    assert run.done["events"] == run.done["produced"] == len(run.lines)
    assert len([line for line in run.lines if line.func == "tp:net_dev_queue"]) == 200
