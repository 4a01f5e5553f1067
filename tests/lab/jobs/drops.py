"""Runs inside a guest: packets that are dropped in many ways among others, and what counts them.

    python -m tests.lab.jobs.drops FOLDER

FOLDER gets result.json; the host judges (test_drops.py), nothing is here.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.lab.jobs.forked import Forked, share
from tests.lab.jobs.steps import run_steps
from tests.lab.jobs.tracer import Seen, tracer
from tests.lab.net import traffic
from tests.lab.net.topology import DNAT, FAR, FAR6, NAMESPACES, NEAR, inside, run, wire
from tests.support.paths import TREE

NO_PORT, BAD_SUM, FULL, NFT, RP_FILTER, TTL, NO_ROUTE, NO_PORT6, REFUSED = range(6001, 6010)
TRACKED = range(6010, 6016)
ETH_P_ALL = 3
REFUSALS = 3
WAITS, WAITING, PATIENCE = 6016, 6, 2.0  # seconds, in which nobody tells of an end
CLOSES, CLOSED = 6017, 4
PASSES, PASSES_TCP = 6020, 6021
COUNTS = {
    NO_PORT: 12, BAD_SUM: 7, FULL: 60, NFT: 9, RP_FILTER: 5, TTL: 4, NO_ROUTE: 6, NO_PORT6: 8,
    REFUSED: 3,
}  # fmt: skip
"""Port -> how many packets are sent there; of FULL some are not dropped."""
PASSING = 200
UNKNOWN = "198.18.0.1"
ELSEWHERE = "10.82.0.77"  # far's way to it is not the way that it comes
RULES = f"""
table inet drops {{
    chain input {{
        type filter hook input priority 0
        udp dport {NFT} counter drop comment "dropped here"
    }}
}}
"""
# Conntrack drops between the two. The first has accepted; because of the second it tracks.
CONNTRACK = """
table inet conntrack {
    chain before { type filter hook prerouting priority raw; policy accept; counter; }
    chain input { type filter hook input priority 0; policy accept; ct state invalid counter; }
}
"""
LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")
DROPS = (
    "--drops", "--output-json", "--priority", "1",
    f"(udp and portrange {NO_PORT}-{PASSES}) or tcp dst port {REFUSED}",
)  # fmt: skip
JOURNEYS = (
    "--output-journey", "--output-tcp-flags", "--output-nft=text",
    "--filter-func", "(ip_rcv|ip_local_out|nf_hook_slow|ip_forward|ip_output|tcp_v4_rcv|udp_rcv)",
    f"(tcp and port 80) or udp port {NFT} or udp port {PASSES}",
)  # fmt: skip


def commands() -> list[list[str]]:
    """What is run here, for the cache that the host fills."""
    return [list(DROPS), list(JOURNEYS)]


def send(address: str, port: int, count: int, ttl: int = 64) -> None:
    """Datagrams from near."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside("near"):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sender:
        if family == socket.AF_INET:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        for _ in range(count):
            with contextlib.suppress(ConnectionRefusedError, OSError):
                sender.sendto(b"x" * 100, (address, port))


def forged(source: str, port: int, checksum: int, count: int) -> None:
    """Datagrams from any address to far, with this checksum; 0 is none."""
    datagram = struct.pack("!HHHH", 4000, port, 16, checksum) + b"y" * 8
    header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0)
    octets = header + socket.inet_aton(source) + socket.inet_aton(FAR) + datagram
    with inside("near"):
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with sender:
        for _ in range(count):
            sender.sendto(octets, (FAR, 0))


def refused(count: int) -> None:
    """Connections that nobody takes."""
    for _ in range(count):
        with inside("near"):
            client = socket.socket()
        with client, contextlib.suppress(ConnectionRefusedError):
            client.settimeout(traffic.SECONDS)
            client.connect((FAR, REFUSED))


def bound(port: int, buffer: int = 0) -> socket.socket:
    """A receiver in far."""
    with inside("far"):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(traffic.SECONDS)
    made.bind(("", port))
    return made


def passing(receiver: socket.socket, count: int) -> None:
    """Datagrams that arrive, each before the next is sent."""
    for _ in range(count):
        send(FAR, PASSES, 1)
        receiver.recv(1 << 10)


def slow_capture() -> socket.socket:
    """A capture of what far gets that takes one packet, and refuses its reference to all others."""
    with inside("far"):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    return made


def drain(receiver: socket.socket) -> int:
    """How many datagrams had room."""
    receiver.setblocking(False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while receiver.recv(1 << 10):
            found += 1
    return found


def counters() -> Mapping[str, Mapping[str, int]]:
    """Namespace -> what its kernel has counted."""
    found = {}
    for name in NAMESPACES:
        words = ["ip", "netns", "exec", name, "nstat", "-asz"]
        told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        lines = [line.split() for line in told.splitlines() if not line.startswith("#")]
        found[name] = {word: int(number) for word, number, *_ in lines}
    return found


def by_rule() -> int:
    """Packets that the rule counted."""
    words = ["ip", "netns", "exec", "far", "nft", "-j", "list", "table", "inet", "drops"]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    rules = [entry["rule"]["expr"] for entry in json.loads(told)["nftables"] if "rule" in entry]
    (count,) = [part["counter"]["packets"] for part in rules[0] if "counter" in part]
    return int(count)


def drops(folder: Path) -> Seen:
    """Every kind of drop, with packets that arrive before, between and behind them."""
    kinds: list[Callable[[], None]] = [
        partial(send, FAR, NO_PORT, COUNTS[NO_PORT]),
        partial(forged, NEAR, BAD_SUM, 0x1234, COUNTS[BAD_SUM]),
        partial(send, FAR, FULL, COUNTS[FULL]),
        partial(send, FAR, NFT, COUNTS[NFT]),
        partial(forged, ELSEWHERE, RP_FILTER, 0, COUNTS[RP_FILTER]),
        partial(send, FAR, TTL, COUNTS[TTL], 1),
        partial(send, UNKNOWN, NO_ROUTE, COUNTS[NO_ROUTE]),
        partial(send, FAR6, NO_PORT6, COUNTS[NO_PORT6]),
        partial(refused, COUNTS[REFUSED]),
    ]
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(bound(PASSES))
        for port in (BAD_SUM, RP_FILTER, TTL):
            stack.enter_context(bound(port))
        full = stack.enter_context(bound(FULL, 4096))
        own = stack.enter_context(tracer(folder, "drops", "pypwru", *DROPS, start=Forked))
        own.wait_ready()
        before, rule_before = counters(), by_rule()
        for kind in kinds:
            passing(receiver, PASSING // (len(kinds) + 1))
            kind()
        passing(receiver, PASSING - PASSING // (len(kinds) + 1) * len(kinds))
        traffic.flush()
        after, rule_after = counters(), by_rule()
        seen = own.stop()
        arrived = drain(full)
    return {
        **seen,
        "before": before,
        "after": after,
        "rule": rule_after - rule_before,
        "arrived": arrived,
    }


def journeys(folder: Path) -> Seen:
    """A connection through NAT, a datagram that arrives and one that a rule drops."""
    with (
        bound(PASSES) as receiver,
        tracer(folder, "journeys", "pypwru", *JOURNEYS, start=Forked) as own,
    ):
        own.wait_ready()
        traffic.curl(DNAT, 80, 4201)
        passing(receiver, 1)
        send(FAR, NFT, 1)
        traffic.flush()
        own.wait_line("dropped: ")
        return own.stop()


def refused_by_capture(folder: Path) -> Seen:
    """Datagrams that arrive although a capture refuses them, and some that find no socket. Some of
    the first are read at once, some late, some not before the trace has ended; and some are dropped
    with their socket.
    """
    with (
        bound(PASSES) as receiver,
        bound(WAITS) as late,
        slow_capture(),
        tracer(folder, "refused", "pypwru", *DROPS, start=Forked) as own,
    ):
        own.wait_ready()
        send(FAR, WAITS, WAITING)
        closing = bound(CLOSES)  # only now: the tracer, a fork, would hold it, too
        send(FAR, CLOSES, CLOSED)
        passing(receiver, 12)
        send(FAR, NO_PORT, REFUSALS)
        time.sleep(PATIENCE)  # what has to come by then is the untrue
        for _ in range(WAITING // 2):
            late.recv(1 << 10)
        closing.close()  # and what it has unread is freed after a grace period of RCU
        told = f'"dport":{CLOSES},'
        own.until(f"{CLOSED} {told}", lambda: own.out.read_text().count(told) >= CLOSED)
        seen = own.stop()
        return {**seen, "waited": WAITING // 2 + drain(late)}


def table_full(folder: Path) -> Seen:
    """Each datagram would be a connection of its own, and conntrack has room for one."""
    with inside("router"):
        run("nft", "-f", "-", words=CONNTRACK)
    before = LIMIT.read_text()
    try:
        with tracer(folder, "full", "pypwru", *DROPS, start=Forked) as own:
            own.wait_ready()
            LIMIT.write_text("1")
            for port in TRACKED:
                send(FAR, port, 1)
            traffic.flush()
            words = ["ip", "netns", "exec", "router", "conntrack", "-S"]
            told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            return {**own.stop(), "counted": told}
    finally:
        LIMIT.write_text(before)
        with inside("router"):
            run("nft", "delete", "table", "inet", "conntrack")


def main() -> None:
    shared = Path(sys.argv[1])
    os.environ["PYPWRU_CACHE"] = str(shared / "cache")
    os.environ["PYTHONPATH"] = str(TREE)
    folder = Path("/run/drops")
    folder.mkdir()
    wire()
    for name in NAMESPACES:
        with inside(name):
            for link in ("all", "default"):
                Path(f"/proc/sys/net/ipv4/conf/{link}/rp_filter").write_text("0")
    with inside("far"):
        Path("/proc/sys/net/ipv4/conf/far0/rp_filter").write_text("1")
        run("nft", "-f", "-", words=RULES)
    share()
    inodes = {name: Path("/run/netns", name).stat().st_ino for name in NAMESPACES}
    result: dict[str, object] = {"inodes": inodes}
    steps = [
        ("drops", partial(drops, folder)),
        ("journeys", partial(journeys, folder)),
        ("table_full", partial(table_full, folder)),
        ("refused_by_capture", partial(refused_by_capture, folder)),
    ]
    run_steps(steps, result, shared / "result.json")


if __name__ == "__main__":
    main()
