"""Interfaces of real namespaces; `ip` makes and judges them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.resolve import links
from pypwru.resolve.interfaces import Interfaces, namespaces
from tests.support.need import need

pytestmark = pytest.mark.native


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


def test_every_namespace_has_the_links_that_ip_lists(namespace: str) -> None:
    for number in range(40):  # more than one datagram of answers
        ip("-n", namespace, "link", "add", f"averylongname{number}", "type", "bridge")
    own = os.stat("/proc/self/ns/net").st_ino
    before = os.readlink("/proc/thread-self/ns/net")
    found = links.interfaces(namespaces(), own)
    listed = json.loads(ip("-n", namespace, "-j", "link", "show"))
    assert found[inode(namespace)] == {link["ifindex"]: link["ifname"] for link in listed}
    assert len(listed) >= 41
    here = json.loads(ip("-j", "link", "show"))
    assert found[own] == {link["ifindex"]: link["ifname"] for link in here}
    # No thread of this process is left in a wrong namespace.
    tasks = {
        os.readlink(f"/proc/self/task/{task}/ns/net") for task in os.listdir("/proc/self/task")
    }
    assert tasks == {before}


def test_what_appears_later_is_named(namespace: str) -> None:
    now = 0.0
    names = Interfaces(monotonic=lambda: now)
    assert names.name(inode(namespace), 1) == "lo"
    ip("-n", namespace, "link", "add", "later", "index", "77", "type", "bridge")
    assert names.name(inode(namespace), 77) == ""
    now = 1.5
    assert names.name(inode(namespace), 77) == "later"
    ip("-n", namespace, "link", "set", "later", "name", "renamed")
    now = 7.0
    assert names.name(inode(namespace), 77) == "renamed"


def test_a_namespace_of_a_process_without_a_file(namespace: str) -> None:
    need(shutil.which("unshare"), "unshare, of util-linux")
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link add hidden index 9 type bridge; echo; read _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        there = os.stat(f"/proc/{process.pid}/ns/net").st_ino
        assert Interfaces().name(there, 9) == "hidden"
        process.communicate(b"\n")
