"""Runs inside a guest: packets through iptables-legacy's tables, traced, and its own counters.

``trace_legacy`` is a step of main_job.py, whose namespaces it uses; test_legacy.py checks it. Every
chain begins with rules that count all that is sent here, so that the counters have how many packets
each table had at each hook; and some have rules that drop.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.lab.jobs.tracer import StepResult, tracer
from tests.lab.net.broute import route_all
from tests.lab.net.topology import inside, run
from tests.lab.net.traffic import flush

FIRST, LAST = 7001, 7009
BROUTED, MANY = 7010, 5  # port, and how many go there
NEAR6, FAR6 = "2001:db8::1", "2001:db8::2"
TABLES = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
# Every way to drop, an explicit accept, a chain that comes back, and a packet that a rule sends.
RULES = {
    "raw": ["PREROUTING -p udp --dport 7002 -j DROP"],
    "mangle": ["PREROUTING -p udp --dport 7003 -j DROP"],
    "nat": ["PREROUTING -p udp --dport 7007 -j REDIRECT --to-ports 7008"],
    "filter": [
        "INPUT -p udp --dport 7001 -j DROP",
        "INPUT -p udp --dport 7004 -j REJECT",
        "INPUT -p udp --dport 7005 -j quiet",
        "INPUT -p udp --dport 7006 -j ACCEPT",
    ],
}
# Family -> the command's name before "-legacy", and the reply to a port without a socket.
FAMILIES = {
    "ip": ("iptables", "icmp --icmp-type 3"),
    "ip6": ("ip6tables", "ipv6-icmp --icmpv6-type 1"),
}
SENT = f"udp portrange {FIRST}-{BROUTED} or icmp[icmptype] == 3 or (icmp6 and ip6[40] == 1)"
_COUNTED = re.compile(r"^\*(\w+)$|^\[(\d+):\d+\] -A (\w+) (.*)$", re.MULTILINE)


def _rules(unreachable: str) -> Iterable[str]:
    for table, chains in TABLES.items():
        yield f"*{table}"
        if table == "filter":
            yield ":quiet - [0:0]"
        for chain in chains:
            for match in (f"udp --dport {FIRST}:{LAST}", unreachable):
                yield f"-A {chain} -p {match}"
        yield from (f"-A {rule}" for rule in RULES[table])
        yield "COMMIT\n"


def rule_counters(command: str) -> list[tuple[str, str, str, int]]:
    """Return table, chain, rule and packets of every rule."""
    saved = subprocess.run(
        [f"{command}-legacy-save", "-c"], check=True, capture_output=True, text=True
    ).stdout
    table, found = "", []
    for begun, packets, chain, rule in _COUNTED.findall(saved):
        table = begun or table
        if chain:
            found.append((table, chain, rule, int(packets)))
    return found


def send(address: str) -> None:
    """Send each port one datagram more than the one before."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside("near"), socket.socket(family, socket.SOCK_DGRAM) as sender:
        for port in range(FIRST, LAST + 1):
            for _ in range(port - FIRST + 1):
                with contextlib.suppress(ConnectionRefusedError):
                    sender.sendto(b"legacy", (address, port))


def count_routed(address: str) -> int:
    """Return how many datagrams come to a bridge's port that has its own address."""
    for words in ("add bridge up type bridge", "set inside master bridge"):
        run("ip", "-n", "far", "link", *words.split())
    with inside("far"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        route_all()
        receiver.bind((address, BROUTED))
        receiver.settimeout(5)
        with inside("near"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(MANY):
                sender.sendto(b"routed", (address, BROUTED))
        found = 0
        with contextlib.suppress(TimeoutError):
            while found < MANY:
                found += len(receiver.recv(64)) > 0
    run("ip", "-n", "far", "link", "delete", "bridge")
    return found


def trace_legacy(folder: Path, address: str, has_ebtables: bool) -> StepResult:
    """Load the modules only after the tracer has started."""
    modules = ["ip_tables", "ip6_tables", *["ebtables"] * has_ebtables]
    for name, local in (("near", NEAR6), ("far", FAR6)):
        run("ip", "-n", name, *f"address add {local}/64 dev inside nodad".split())
    words = ["--filter-func", "kfree_skb_reason|kfree_skb|sk_skb_reason_drop", "--output-json"]
    with tracer(folder, "legacy", "pypwru", *words, SENT) as own:
        own.wait_ready()
        with inside("far"):
            for command, unreachable in FAMILIES.values():
                run(f"{command}-legacy-restore", words="\n".join(_rules(unreachable)))
        if has_ebtables:
            run("modprobe", "ebtable_broute")
        for module in modules:
            own.wait_word(f"Attached to iptables-legacy ({module})")
        send(address)
        send(FAR6)
        flush()
        arrived = count_routed(address) if has_ebtables else 0
        with inside("far"):
            counters = {family: rule_counters(row[0]) for family, row in FAMILIES.items()}
        return {**own.stop(), "counters": counters, "routed": arrived}
