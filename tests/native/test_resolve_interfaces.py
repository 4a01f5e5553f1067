"""Namespaces and interfaces as `ip` makes them, while inodes are reused and names change."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pypwru.fds import closing_fd
from pypwru.kernel import netns_links
from pypwru.kernel.netns import netns_cookie
from pypwru.kernel.netns_opener import find_namespaces
from pypwru.names.namespaces import NetnsNames
from tests.native.tracing import Run, tracing
from tests.support.need import need

pytestmark = pytest.mark.native

HELD = 10
TRIES, REUSE_TIMEOUT = 12, 5  # s


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    need(os.geteuid() == 0, "root, to make network namespaces")
    need(shutil.which("ip"), "ip, of iproute2")
    name = f"pypwru-resolve-{os.getpid()}"
    ip("netns", "add", name)
    try:
        yield name
    finally:
        ip("netns", "del", name)


def inode(namespace: str) -> int:
    return Path("/run/netns", namespace).stat().st_ino


def cookie(namespace: str) -> int:
    with closing_fd(os.open(f"/run/netns/{namespace}", os.O_RDONLY)) as descriptor:
        return netns_cookie(descriptor)


def test_interface_names_are_those_of_ip(namespace: str) -> None:
    for number in range(40):  # more than one datagram of answers
        ip("-n", namespace, "link", "add", f"averylongname{number}", "type", "bridge")
    before = os.readlink("/proc/thread-self/ns/net")
    path = find_namespaces()[inode(namespace)]
    with closing_fd(os.open(path, os.O_RDONLY)) as descriptor:
        found = netns_links.interface_names(descriptor)
    listed = json.loads(ip("-n", namespace, "-j", "link", "show"))
    assert found == {link["ifindex"]: link["ifname"] for link in listed}
    assert len(listed) >= 41
    here = json.loads(ip("-j", "link", "show"))
    assert netns_links.interface_names() == {link["ifindex"]: link["ifname"] for link in here}
    # No thread of this process is left in a wrong namespace.
    tasks = {
        os.readlink(f"/proc/self/task/{task}/ns/net") for task in os.listdir("/proc/self/task")
    }
    assert tasks == {before}


def test_namespace_without_file_is_found() -> None:
    need(shutil.which("unshare"), "unshare, of util-linux")
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link add hidden index 9 type bridge; echo; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        there = os.stat(f"/proc/{process.pid}/ns/net").st_ino
        with closing_fd(os.open(find_namespaces()[there], os.O_RDONLY)) as descriptor:
            assert netns_links.interface_names(descriptor)[9] == "hidden"
        process.communicate(b"\n")


def namespace_with_inode(inode_before: int, made: list[str]) -> str | None:
    """Return the name of a new namespace with a reused inode, the lowest free one; None if another
    process was faster.

    Args:
        inode_before: that of a deleted namespace, which the kernel frees a while later.
        made: gets the names of those that were made and still exist.
    """
    end = time.monotonic() + REUSE_TIMEOUT
    while time.monotonic() < end:
        made.append(f"pypwru-new-{os.getpid()}-{len(made)}")
        ip("netns", "add", made[-1])
        if inode(made[-1]) == inode_before:
            return made[-1]
        if inode(made[-1]) > inode_before:
            ip("netns", "del", made.pop())
    return None


def test_reused_inode_has_other_cookie() -> None:
    names, made = NetnsNames(), list[str]()
    try:
        for number in range(TRIES):
            old = f"pypwru-old-{os.getpid()}-{number}"
            ip("netns", "add", old)
            inode_before, before = inode(old), cookie(old)
            need(before, "cookies of namespaces: Linux 5.14")
            assert names.name(inode_before, before) == old
            ip("netns", "del", old)
            if new := namespace_with_inode(inode_before, made):
                break
        assert new, "no inode of a namespace was reused"
        assert cookie(new) not in (before, 0)
        assert names.name(inode_before, cookie(new)) == new
        assert names.name(inode_before, before) == old
        assert NetnsNames().name(inode_before, before) == ""
    finally:
        for name in made:
            ip("netns", "del", name)


def ping(namespace: str, address: str) -> None:
    ip("netns", "exec", namespace, "ping", "-c1", "-W5", "-q", address)


def test_filter_netns_holds_inode() -> None:
    """While it is traced its inode isn't reused, although nothing else holds it."""
    old, new = (f"pypwru-{word}-{os.getpid()}" for word in ("old", "new"))
    ip("netns", "add", old)
    inode_before = inode(old)
    try:
        ip("-n", old, "link", "set", "lo", "up")
        with tracing("--filter-netns", old, "icmp") as run:
            ping(old, "127.92.0.1")
            ip("netns", "del", old)
            for _ in range(HELD):
                ip("netns", "add", new)
                assert inode(new) != inode_before
                ip("-n", new, "link", "set", "lo", "up")
                ping(new, "127.92.0.2")
                ip("netns", "del", new)
        assert sum("127.92.0.1" in line.tuple for line in run.lines) > 0
        assert sum("127.92.0.2" in line.tuple for line in run.lines) == 0
    finally:
        subprocess.run(["ip", "netns", "del", old], check=False, capture_output=True)


def _rows(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def _sequence(row: dict[str, Any]) -> int:
    """Return the last byte of the pinged address; the other one is 127.0.0.1."""
    ends = row["tuple"]["saddr"], row["tuple"]["daddr"]
    (pinged,) = (end for end in ends if end != "127.0.0.1")
    return int(pinged.rpartition(".")[2]) - 1


def test_short_lived_namespaces_have_right_names() -> None:
    """Each pings its own address, by its own device: the address is the oracle of the names."""
    count, named = 60, 0
    with tracing("--output-json", "--output-netns-names", "icmp and net 127.93.0.0/16") as run:
        for number in range(count):
            name = f"pw{os.getpid()}x{number}"
            ip("netns", "add", name)
            try:
                ip("-n", name, "link", "set", "lo", "name", f"lo{number}", "up")
                ping(name, f"127.93.0.{number + 1}")
            finally:
                ip("netns", "del", name)
    seen = set()
    for row in _rows(run):
        number = _sequence(row)
        expected = f"pw{os.getpid()}x{number}"
        assert row.get("netns_name") in (expected, None)
        assert row["iface"] in (f"lo{number}:1", "0")
        named += row.get("netns_name") == expected
        seen.add(number)
    assert seen == set(range(count))
    assert named > len(_rows(run)) * 0.9  # the others had ended before they were looked up


def test_device_has_name_at_time_of_packet(namespace: str) -> None:
    """The ifindex stays the same; the oracle is the address, one for each name."""
    count, before = 20, "lo"
    with tracing("--output-json", "icmp and net 127.94.0.0/16") as run:
        for number in range(count):
            ip("-n", namespace, "link", "set", before, "down")
            ip("-n", namespace, "link", "set", before, "name", f"lo{number}")
            before = f"lo{number}"
            ip("-n", namespace, "link", "set", before, "up")
            ping(namespace, f"127.94.0.{number + 1}")
    rows = [row for row in _rows(run) if row["iface"] != "0"]
    numbers = [_sequence(row) for row in rows]
    assert [row["iface"] for row in rows] == [f"lo{number}:1" for number in numbers]
    assert set(numbers) == set(range(count))


def test_filter_ifname_matches_by_name(namespace: str) -> None:
    """It is deleted and made again, with another ifindex; another device gets the first one's."""
    with tracing("--filter-netns", namespace, "--filter-ifname", "lo", "icmp") as run:
        ip("-n", namespace, "link", "set", "lo", "up")
        ping(namespace, "127.95.0.1")
        ip("-n", namespace, "link", "set", "lo", "down")
        ip("-n", namespace, "link", "set", "lo", "name", "averylongname")
        ip("-n", namespace, "link", "set", "averylongname", "up")
        ping(namespace, "127.95.0.2")
        ip("-n", namespace, "link", "set", "averylongname", "down")
        ip("-n", namespace, "link", "set", "averylongname", "name", "lo")  # shorter again
        ip("-n", namespace, "link", "set", "lo", "up")
        ping(namespace, "127.95.0.3")
    addresses = {
        address for line in run.lines for address in re.findall(r"127\.95[.\d]+", line.tuple)
    }
    assert addresses == {"127.95.0.1", "127.95.0.3"}
    assert {line.iface for line in run.lines} == {"lo:1"}
