"""A namespace for each ruleset of the folder ``corpus``, all alike, and the packets sent there.

    outside: up0 -- eth0 (the host) eth1 -- down0

The world is one namespace, whose devices have no addresses: it sends frames built by hand. A host
with rules for bridges has both its devices in ``br0``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

from tests.lab.net.topology import inside, run
from tests.lab.truth import frames, traffic, wires

OUTSIDE = "outside"
_CPU = 0
_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}
_UDP = (
    ("127.0.0.1", 53), ("127.0.0.1", 8080), (frames.RESOLVER, 53), (frames.GUEST, 53),
    (frames.SERVICE, 53), ("::1", 53), (frames.GATEWAY6, 53),
)  # fmt: skip
_TCP = (("127.0.0.1", 22), ("127.0.0.1", 80), (frames.HOST, 8080), (frames.WORLD, 443))


def outside() -> None:
    """Make the namespace at the other ends of all hosts' wires."""
    run("ip", "netns", "add", OUTSIDE)
    run("ip", "-n", OUTSIDE, "link", "set", "lo", "up")


def host(name: str, number: int, is_bridged: bool) -> None:
    """Make a namespace, and its two wires to ``outside``."""
    run("ip", "netns", "add", name)
    with inside(name):
        wires.set_all(wires.ANSWERS | _SETTINGS)
    run("ip", "-batch", "-", words="\n".join(_links(name, number)) + "\n")
    run("ip", "-n", name, "-batch", "-", words="\n".join(_lines(is_bridged)) + "\n")


def _mac(end: str) -> str:
    return frames.mac(end).hex(":")


def _links(name: str, number: int) -> Iterator[str]:
    for device, wire in (("eth0", "up"), ("eth1", "down")):
        peer = f"peer name {wire}{number} netns {OUTSIDE}"
        yield f"link add {device} netns {name} address {_mac(wire)} type veth {peer}"


def _lines(is_bridged: bool) -> Iterator[str]:
    up, down = ("br0", "br0") if is_bridged else ("eth0", "eth1")
    if is_bridged:
        yield f"link add br0 address {_mac('up')} type bridge mcast_snooping 0"
    for device in dict.fromkeys(("eth0", "eth1", up)):
        yield f"link set {device} addrgenmode none"
        if is_bridged and device != "br0":
            yield f"link set {device} master br0"
    yield from (f"link set {device} up" for device in dict.fromkeys(("lo", "eth0", "eth1", up)))
    for address, device in (
        (f"{frames.HOST}/24", up),
        (f"{frames.DOWN}/24", down),
        (f"{frames.HOST6}/64", f"{up} nodad"),
        (f"{frames.DOWN6}/64", f"{down} nodad"),
    ):
        yield f"addr add {address} dev {device}"
    for gateway in (frames.GATEWAY, frames.GATEWAY6):
        yield f"route add default via {gateway}"
    for address, end, device in (
        (frames.GATEWAY, "gateway", up),
        (frames.GATEWAY6, "gateway", up),
        ("2001:db8:1::7", "gateway", up),
        ("2001:db8:1::66", "gateway", up),
        (frames.GUEST, "guest", down),
        (frames.OTHER_GUEST, "guest", down),
        (frames.GUEST6, "guest", down),
    ):
        yield f"neigh add {address} lladdr {_mac(end)} dev {device}"


def wires_up(numbers: Sequence[int]) -> None:
    """Set up the other ends of these hosts' wires, which receive nothing."""
    lines = [
        f"link set {wire}{number} {what}"
        for number in numbers
        for wire in ("up", "down")
        for what in ("addrgenmode none", "up")
    ]
    run("ip", "-n", OUTSIDE, "-batch", "-", words="\n".join(lines) + "\n")


def send(name: str, number: int) -> None:
    """Send all frames, and the host's own packets, from one CPU: they come one after the other."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_CPU})
    try:
        with contextlib.ExitStack() as stack:
            sockets = {}
            with inside(OUTSIDE):
                for wire in ("up", "down"):
                    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
                    sockets[wire] = stack.enter_context(made)
                    made.bind((f"{wire}{number}", 0))
            for frame in frames.frames():
                sockets[frame.wire].send(frame.data)
                traffic.settle(2)
        with inside(name):
            _send_own()
        traffic.settle()
    finally:
        os.sched_setaffinity(0, usual)


def _send_own() -> None:
    for kind, ends in ((socket.SOCK_DGRAM, _UDP), (socket.SOCK_STREAM, _TCP)):
        for address, port in ends:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, kind) as sender, contextlib.suppress(OSError):
                sender.setblocking(False)
                sender.connect((address, port))  # of a datagram this sends nothing yet
                if kind is socket.SOCK_DGRAM:
                    sender.send(b"datagram")


def mark_namespace() -> None:
    """Make the namespace of the marks, which show how far a run is."""
    run("ip", "netns", "add", wires.MARK)
    wires.mark_rules()
    run("ip", "link", "set", "lo", "up")
