"""--output-ct of a real run: every event equals conntrack(8)'s list, NAT and zones included."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pypwru.output.conntrack import STATUS_NAMES
from tests.native.tracing import Network, network, tracing
from tests.oracles.conntrack import entry, listing, mismatches
from tests.oracles.json_schema import validated
from tests.support.need import need

pytestmark = pytest.mark.native

UNTRACKED, ZONED, SOURCE = 7001, 7002, 7003
RULES = f"""
table inet pypwru_ct {{
  chain before {{ type filter hook output priority -300
    udp dport {UNTRACKED} notrack
    udp dport {ZONED} ct zone set 7
  }}
  chain redirected {{ type nat hook prerouting priority -100
    tcp dport 80 redirect to :8080
  }}
  chain masqueraded {{ type nat hook postrouting priority 100
    udp dport {SOURCE} masquerade to :40000
  }}
  chain marked {{ type filter hook input priority 0
    ct state new ct mark set 42
  }}
}}
"""
SERVER = """
import socket
with socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True) as server:
    print("ready", flush=True)
    for _ in range(2):
        connection, _ = server.accept()
        with connection:
            while connection.recv(100):
                connection.sendall(b"pong")
"""
CLIENT = """
import socket, sys
for address in sys.argv[1:]:
    with socket.create_connection((address, 80)) as connection:
        connection.sendall(b"ping")
        connection.recv(100)
"""
SENDER = """
import socket, sys
for port in sys.argv[2:]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"datagram", (sys.argv[1], int(port)))
"""


class TracedEvents(NamedTuple):
    """Events of the namespace with the rules, and conntrack's list afterwards."""

    events: list[dict[str, Any]]
    lines: list[str]


def in_namespace(namespace: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, *command]


@contextlib.contextmanager
def run_server(net: Network) -> Iterator[None]:
    command = in_namespace(net.right, sys.executable, "-c", SERVER)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield
            server.wait(30)
        finally:
            server.kill()


def traffic(net: Network) -> None:
    with run_server(net):
        assert net.run(sys.executable, "-c", CLIENT, net.v4(2), net.v6(2)).returncode == 0
    net.ping(net.v4(2))
    net.ping(net.v6(2))
    ports = (str(port) for port in (UNTRACKED, ZONED, SOURCE))
    subprocess.run(
        in_namespace(net.right, sys.executable, "-c", SENDER, net.v4(1), *ports), check=True
    )
    net.run(sys.executable, "-c", SENDER, net.v4(2), "9")


@pytest.fixture(scope="module")
def traced() -> Iterator[TracedEvents]:
    with network() as net:
        subprocess.run(
            in_namespace(net.right, "nft", "-f", "-"), input=RULES, text=True, check=True
        )
        with tracing(
            "--output-ct", "--output-json", f"host {net.v4(2)} or host {net.v6(2)}"
        ) as run:
            traffic(net)
            lines = listing(net.right)
        assert run.status == 0, run.stderr
        assert run.done["lost_ring_full"] == 0
        events = [validated(line) for line in run.stdout.encode().splitlines(keepends=True)]
        here = int(net.inode(net.right))
        assert not [one for one in events if "ct" in one and one["netns"] != here]
        yield TracedEvents([one for one in events if one["netns"] == here], lines)


def test_events_equal_list_of_conntrack(traced: TracedEvents) -> None:
    assert mismatches(traced.events, traced.lines) == []


def test_events_have_all_kinds_of_connections(traced: TracedEvents) -> None:
    """Otherwise the comparison would prove nothing."""
    ct_objects = [one["ct"] for one in traced.events if "ct" in one]
    assert {one["state"] for one in ct_objects} == {"new", "established", "related", "untracked"}
    tracked = [one for one in ct_objects if "original" in one]
    assert {one["direction"] for one in tracked} == {"original", "reply"}
    assert {word for one in tracked for word in one["status"]} >= {
        "seen-reply",
        "confirmed",
        "snat",
        "dnat",
    }
    assert {one["original"]["proto"] for one in tracked} == {1, 6, 17, 58}
    assert {one["zone"] for one in tracked} == {0, 7}
    assert {one["mark"] for one in tracked} == {0, 42}


def test_status_names_are_those_of_nft() -> None:
    need(shutil.which("nft"), "nft, of nftables")
    described = subprocess.run(
        ["nft", "describe", "ct", "status"], check=True, capture_output=True, text=True
    ).stdout
    words = {
        word: int(bits, 16) for word, bits in re.findall(r"^\t(\S+) +\t(0x\w+)", described, re.M)
    }
    assert len(words) >= 7
    header = Path("/usr/include/linux/netfilter/nf_conntrack_common.h")
    need(header.exists(), "linux-libc-dev")
    bits = dict(re.findall(r"IPS_(\w+)_BIT = (\d+)", header.read_text()))
    others = ("helper", "offload", "hw-offload")
    words |= {word: 1 << int(bits[word.upper().replace("-", "_")]) for word in others}
    assert {word: 1 << bit for bit, word in STATUS_NAMES.items()} == words


def test_every_listed_connection_has_events(traced: TracedEvents) -> None:
    ct_objects = [one["ct"] for one in traced.events if "original" in one.get("ct", {})]
    listed = [entry(line) for line in traced.lines]
    # Connections from before the trace: the neighbours' first pings.
    missing = [
        one for one in listed if one.original not in [each["original"] for each in ct_objects]
    ]
    assert all("icmp" in one.original for one in missing)
    assert len(ct_objects) > len(listed) > 5


def test_untracked_packet_has_state_untracked(traced: TracedEvents) -> None:
    untracked = [one for one in traced.events if one.get("ct") == {"state": "untracked"}]
    assert {one["tuple"]["dport"] for one in untracked} == {UNTRACKED}


def test_comparison_finds_differences(traced: TracedEvents) -> None:
    """The comparison can fail: another mark, another port behind NAT, no such zone."""
    events = [one for one in traced.events if "dnat" in one.get("ct", {}).get("status", ())]
    assert events
    for change in (("mark=42", "mark=41"), ("sport=8080", "sport=8081"), ("mark", "zone=3 mark")):
        lines = [line.replace(*change) for line in traced.lines]
        assert len(mismatches(events, lines)) == len(events)
