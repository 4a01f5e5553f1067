"""Runs inside a guest: packets that are dropped for many reasons among others, and their counters.

    python -m tests.lab.jobs.drops FOLDER

FOLDER gets result.json; nothing is checked here, but on the host (test_drops.py).
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
from tests.lab.jobs.tracer import StepResult, tracer
from tests.lab.net import traffic
from tests.lab.net.topology import DNAT, FAR, FAR6, NAMESPACES, NEAR, inside, run, wire
from tests.support.paths import TREE

NO_PORT, BAD_SUM, FULL, NFT, RP_FILTER, TTL, NO_ROUTE, NO_PORT6, REFUSED = range(6001, 6010)
TRACKED = range(6010, 6016)
ETH_P_ALL = 3
REFUSALS = 3
WAITS, WAITING, QUIET_SECONDS = 6016, 6, 2.0  # seconds without a record of a free
CLOSES, CLOSED = 6017, 4
PASSES, PASSES_TCP = 6020, 6021
COUNTS = {
    NO_PORT: 12, BAD_SUM: 7, FULL: 60, NFT: 9, RP_FILTER: 5, TTL: 4, NO_ROUTE: 6, NO_PORT6: 8,
    REFUSED: 3,
}  # fmt: skip
"""Port -> how many packets are sent there; of FULL some are not dropped."""
PASSING = 200
UNKNOWN = "198.18.0.1"
ELSEWHERE = "10.82.0.77"  # far's route to it is not the way that it comes
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
    """Return the command lines of this job, for the cache that the host fills."""
    return [list(DROPS), list(JOURNEYS)]


def send(address: str, port: int, count: int, ttl: int = 64) -> None:
    """Send datagrams from near."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside("near"):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sender:
        if family == socket.AF_INET:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        for _ in range(count):
            with contextlib.suppress(ConnectionRefusedError, OSError):
                sender.sendto(b"x" * 100, (address, port))


def send_forged(source: str, port: int, checksum: int, count: int) -> None:
    """Send datagrams from any address to far, with this checksum; 0 is none."""
    datagram = struct.pack("!HHHH", 4000, port, 16, checksum) + b"y" * 8
    header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0)
    octets = header + socket.inet_aton(source) + socket.inet_aton(FAR) + datagram
    with inside("near"):
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with sender:
        for _ in range(count):
            sender.sendto(octets, (FAR, 0))


def refuse_connections(count: int) -> None:
    """Open connections that no socket accepts."""
    for _ in range(count):
        with inside("near"):
            client = socket.socket()
        with client, contextlib.suppress(ConnectionRefusedError):
            client.settimeout(traffic.SECONDS)
            client.connect((FAR, REFUSED))


def bind_receiver(port: int, buffer: int = 0) -> socket.socket:
    """Bind a receiver in far."""
    with inside("far"):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(traffic.SECONDS)
    made.bind(("", port))
    return made


def pass_datagrams(receiver: socket.socket, count: int) -> None:
    """Send datagrams that arrive, each before the next is sent."""
    for _ in range(count):
        send(FAR, PASSES, 1)
        receiver.recv(1 << 10)


def slow_capture() -> socket.socket:
    """Open a capture in far that takes one packet, and drops its reference to all others."""
    with inside("far"):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    return made


def drain(receiver: socket.socket) -> int:
    """Return how many datagrams had room."""
    receiver.setblocking(False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while receiver.recv(1 << 10):
            found += 1
    return found


def counters() -> Mapping[str, Mapping[str, int]]:
    """Map each namespace to its kernel's counters."""
    found = {}
    for name in NAMESPACES:
        words = ["ip", "netns", "exec", name, "nstat", "-asz"]
        output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        lines = [line.split() for line in output.splitlines() if not line.startswith("#")]
        found[name] = {word: int(number) for word, number, *_ in lines}
    return found


def rule_counter() -> int:
    """Return how many packets the rule counted."""
    words = ["ip", "netns", "exec", "far", "nft", "-j", "list", "table", "inet", "drops"]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    rules = [entry["rule"]["expr"] for entry in json.loads(output)["nftables"] if "rule" in entry]
    (count,) = [part["counter"]["packets"] for part in rules[0] if "counter" in part]
    return int(count)


def drops(folder: Path) -> StepResult:
    """Cause every kind of drop, with packets that arrive before, between and behind them."""
    kinds: list[Callable[[], None]] = [
        partial(send, FAR, NO_PORT, COUNTS[NO_PORT]),
        partial(send_forged, NEAR, BAD_SUM, 0x1234, COUNTS[BAD_SUM]),
        partial(send, FAR, FULL, COUNTS[FULL]),
        partial(send, FAR, NFT, COUNTS[NFT]),
        partial(send_forged, ELSEWHERE, RP_FILTER, 0, COUNTS[RP_FILTER]),
        partial(send, FAR, TTL, COUNTS[TTL], 1),
        partial(send, UNKNOWN, NO_ROUTE, COUNTS[NO_ROUTE]),
        partial(send, FAR6, NO_PORT6, COUNTS[NO_PORT6]),
        partial(refuse_connections, COUNTS[REFUSED]),
    ]
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(bind_receiver(PASSES))
        for port in (BAD_SUM, RP_FILTER, TTL):
            stack.enter_context(bind_receiver(port))
        full = stack.enter_context(bind_receiver(FULL, 4096))
        own = stack.enter_context(tracer(folder, "drops", "pypwru", *DROPS, start=Forked))
        own.wait_ready()
        before, rule_before = counters(), rule_counter()
        for kind in kinds:
            pass_datagrams(receiver, PASSING // (len(kinds) + 1))
            kind()
        pass_datagrams(receiver, PASSING - PASSING // (len(kinds) + 1) * len(kinds))
        traffic.flush()
        after, rule_after = counters(), rule_counter()
        seen = own.stop()
        arrived = drain(full)
    return {
        **seen,
        "before": before,
        "after": after,
        "rule": rule_after - rule_before,
        "arrived": arrived,
    }


def journeys(folder: Path) -> StepResult:
    """Trace a connection through NAT, a datagram that arrives and one that a rule drops."""
    with (
        bind_receiver(PASSES) as receiver,
        tracer(folder, "journeys", "pypwru", *JOURNEYS, start=Forked) as own,
    ):
        own.wait_ready()
        traffic.curl(DNAT, 80, 4201)
        pass_datagrams(receiver, 1)
        send(FAR, NFT, 1)
        traffic.flush()
        own.wait_line("dropped: ")
        return own.stop()


def refused_by_capture(folder: Path) -> StepResult:
    """Send datagrams that arrive although a capture has no room for them, and some that find no
    socket. Some of the first are read at once, some late, some only after the trace has ended; and
    some are dropped with their socket.
    """
    with (
        bind_receiver(PASSES) as receiver,
        bind_receiver(WAITS) as late,
        slow_capture(),
        tracer(folder, "refused", "pypwru", *DROPS, start=Forked) as own,
    ):
        own.wait_ready()
        send(FAR, WAITS, WAITING)
        closing = bind_receiver(CLOSES)  # only now: the tracer, a fork, would hold it, too
        send(FAR, CLOSES, CLOSED)
        pass_datagrams(receiver, 12)
        send(FAR, NO_PORT, REFUSALS)
        time.sleep(QUIET_SECONDS)  # by then a false drop has been printed
        for _ in range(WAITING // 2):
            late.recv(1 << 10)
        closing.close()  # and its unread datagrams are freed after a grace period of RCU
        key = f'"dport":{CLOSES},'
        own.until(f"{CLOSED} {key}", lambda: own.out.read_text().count(key) >= CLOSED)
        seen = own.stop()
        return {**seen, "waited": WAITING // 2 + drain(late)}


def table_full(folder: Path) -> StepResult:
    """Send datagrams that would be a connection each, while conntrack has room for one."""
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
            statistics = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            return {**own.stop(), "counted": statistics}
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
