"""Names of namespaces that are added, deleted and reuse inodes; files stand in for them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pypwru.names import namespaces as module
from pypwru.names.namespaces import NetnsNames


class Machine:
    """A folder of namespaces, each with its own cookie, and a fake clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.scans = 0
        self.cookies: dict[int, int] = {}
        self.names = NetnsNames(str(folder), lambda: self.now, self.cookie)

    def add(self, name: str, cookie: int = 0) -> int:
        """Add a namespace, and return its inode."""
        path = self.folder / name
        path.touch()
        self.cookies[path.stat().st_ino] = cookie
        return path.stat().st_ino

    def replace(self, old: str, new: str, cookie: int = 0) -> None:
        """Add a namespace that reuses the inode of a deleted one."""
        os.rename(self.folder / old, self.folder / new)
        self.cookies[(self.folder / new).stat().st_ino] = cookie

    def cookie(self, descriptor: int) -> int:
        return self.cookies[os.fstat(descriptor).st_ino]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_name_is_that_of_the_file(machine: Machine) -> None:
    blue = machine.add("blue", 7)
    assert machine.names.name(blue, 7) == "blue"
    assert machine.names.name(0, 0) == ""


def test_new_namespace_is_named_at_once(machine: Machine) -> None:
    assert machine.names.name(machine.add("blue", 7), 7) == "blue"
    assert machine.names.name(machine.add("red", 8), 8) == "red"


def test_late_name_is_found_after_1_s(machine: Machine) -> None:
    blue = machine.add("blue", 7)
    (machine.folder / "blue").rename(machine.folder.parent / "elsewhere")
    assert machine.names.name(blue, 7) == ""
    (machine.folder.parent / "elsewhere").rename(machine.folder / "blue")
    machine.now = 0.9
    assert machine.names.name(blue, 7) == ""
    machine.now = 1.0
    assert machine.names.name(blue, 7) == "blue"


def test_reused_inode_with_cookies(machine: Machine) -> None:
    inode = machine.add("blue", 7)
    assert machine.names.name(inode, 7) == "blue"
    machine.replace("blue", "red", 8)
    for machine.now in (0.0, 5.0):
        assert machine.names.name(inode, 8) == "red"
        assert machine.names.name(inode, 7) == "blue"


def test_deleted_namespace_has_no_name(machine: Machine) -> None:
    inode = machine.add("blue", 7)
    machine.replace("blue", "red", 8)
    for machine.now in (0.0, 5.0):
        assert machine.names.name(inode, 7) == ""


@pytest.mark.parametrize("cookie", [0, 7])  # of records; the fake kernel has none for processes
def test_names_without_cookies(machine: Machine, cookie: int) -> None:
    inode = machine.add("blue")
    assert machine.names.name(inode, cookie) == "blue"
    if not cookie:
        (machine.folder / "blue").unlink()
        machine.now = 0.1
        assert machine.names.name(inode, 0) == ""


def test_reused_inode_without_cookies(machine: Machine) -> None:
    inode = machine.add("blue")
    assert machine.names.name(inode, 0) == "blue"
    machine.replace("blue", "red")
    assert machine.names.name(inode, 0) == ""
    machine.now = 1.0
    assert machine.names.name(inode, 0) == "red"


def test_unnamed_cost_one_scan_per_second(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = 0
    scan = NetnsNames._scan

    def counting_scan(self: NetnsNames) -> None:
        nonlocal scans
        scans += 1
        scan(self)

    monkeypatch.setattr(NetnsNames, "_scan", counting_scan)
    for inode in range(1, 6):
        machine.names.name(inode, inode)
    assert scans == 5  # each is new
    for machine.now in (0.5, 0.9, 1.0, 1.5):
        for inode in range(1, 6):
            machine.names.name(inode, inode)
    assert scans == 6


def test_name_cache_is_bounded(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED", 10)
    for inode in range(100):
        machine.names.name(inode, inode)
    assert len(machine.names._cache) == 10


def test_watch_fills_the_cache(machine: Machine) -> None:
    """Namespaces from before the watch; notification of later mounts is the kernel's."""
    inode = machine.add("blue", 7)
    with machine.names.watch_mounts():
        while (inode, 7) not in machine.names._cache:
            pass
        machine.replace("blue", "red", 8)
        assert machine.names.name(inode, 7) == "blue"
    assert "pypwru-namespaces" not in {thread.name for thread in threading.enumerate()}


def test_missing_folder_has_no_names(tmp_path: Path) -> None:
    assert NetnsNames(str(tmp_path / "nosuch")).name(4026531840, 1) == ""
