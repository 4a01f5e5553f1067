"""Losses without a drop event: growth of the kernel's counters."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from pypwru.kernel import loss_counters
from pypwru.kernel.loss_counters import netstat_counter, parse_rx_errors
from pypwru.statistics import silent
from pypwru.statistics.silent import SilentLosses

NETSTAT = """\
TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 1 5 6
IpExt: InNoRoutes InTruncatedPkts
IpExt: 7 8
"""
DONE = struct.pack("=IHHII", 16, 3, 0, 1, 0)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("TcpExtListenDrops", 6),
        ("TcpExtListenOverflows", 5),
        ("IpExtInNoRoutes", 7),
        ("TcpExtNoSuch", 0),
        ("UdpNoPorts", 0),
    ],
)
def test_counters_have_names_of_nstat(name: str, number: int) -> None:
    assert netstat_counter(NETSTAT, name) == number


def attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def link(name: str, kind: str, errors: int) -> bytes:
    stats = struct.pack("=24Q", 1, 2, 3, 4, errors, *[9] * 19)
    body = bytes(16) + attribute(3, name.encode() + b"\0")
    body += attribute(18 | 0x8000, attribute(1, kind.encode() + b"\0") + attribute(2, b""))
    body += attribute(23, stats)
    return struct.pack("=IHHII", 16 + len(body), 16, 2, 1, 0) + body


def test_rx_errors_of_wireguard_devices() -> None:
    links = link("wg0", "wireguard", 5) + link("eth0", "veth", 7) + link("office", "wireguard", 0)
    assert parse_rx_errors(links) == ({"wg0": 5, "office": 0}, False)
    assert parse_rx_errors(links + DONE)[1]
    assert parse_rx_errors(links[:-9] + DONE)[0]["wg0"] == 5
    assert parse_rx_errors(b"") == ({}, False)


def test_refused_dump_is_an_error() -> None:
    """The kernel's own NLMSG_ERROR, of a request for a device that does not exist."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.settimeout(10)
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0x7FFFFFFF, 0, 0)
        route.send(struct.pack("=IHHII", 16 + len(body), 18, 0x1, 1, 0) + body)
        refusal = route.recv(1 << 16)
    with pytest.raises(OSError, match="No such device") as raised:
        parse_rx_errors(refusal)
    assert raised.value.errno == errno.ENODEV


def test_counters_of_this_machine() -> None:
    found = loss_counters.read_loss_counters()
    text = Path("/proc/self/net/netstat").read_text()
    assert found["TcpExtListenDrops"] <= netstat_counter(text, "TcpExtListenDrops")


class FakeMachine:
    """Namespaces, of which only that of the test can be read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inode = os.stat("/proc/self/ns/net").st_ino
        self.counters: dict[str, int] = {}
        self.is_refused = False
        monkeypatch.setattr(silent, "run_in_namespace", self.refuse)

    def refuse(self, descriptor: int, work: object) -> dict[str, int]:
        """Fail as the kernel does without CAP_SYS_ADMIN."""
        raise PermissionError(1, "Operation not permitted")

    def paths(self) -> Mapping[int, str]:
        return {self.inode: "/proc/self/ns/net", 1: "/proc/self/ns/net", 2: "/no/such/path"}

    def read(self) -> dict[str, int]:
        if self.is_refused:
            raise OSError(errno.EBUSY, "Device or resource busy")
        return dict(self.counters)

    def losses(self, netns: int = 0) -> SilentLosses:
        return SilentLosses(netns, self.paths, self.read)


def test_grown_counters_have_a_sentence_each(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakeMachine(monkeypatch)
    machine.counters = {"TcpExtListenDrops": 4, "wg0 rx_errors": 1}
    losses = machine.losses()
    assert losses.sentences() == []
    machine.counters = {"TcpExtListenDrops": 10, "wg0 rx_errors": 1, "wg1 rx_errors": 3}
    drops, errors = losses.sentences()
    where = f"in network namespace inode:{machine.inode}"
    assert drops.startswith(f"TcpExtListenDrops grew by 6 {where}: ")
    assert "ss -ltn" in drops
    assert errors.startswith(f"wg1 rx_errors grew by 3 {where}: ")
    assert "wg show" in errors


def test_growth_needs_initial_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakeMachine(monkeypatch)
    machine.counters = {"TcpExtListenDrops": 4}
    machine.is_refused = True
    losses = machine.losses()
    machine.is_refused = False
    assert losses.sentences() == []


def test_only_traced_namespace_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakeMachine(monkeypatch)
    own, other = machine.losses(machine.inode), machine.losses(77)
    machine.counters = {"TcpExtListenDrops": 1}
    assert len(own.sentences()) == 1
    assert other.sentences() == []


def test_sentences_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = FakeMachine(monkeypatch)
    losses = machine.losses()
    machine.counters = {f"wg{number} rx_errors": 1 for number in range(20)}
    assert len(losses.sentences()) == 9
    assert losses.sentences()[-1] == "and 12 more such counters"
