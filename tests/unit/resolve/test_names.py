"""Names of processes, interfaces, functions and reasons, from stand-ins of /proc and netlink."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from pypwru.resolve import interfaces as interfaces_module
from pypwru.resolve import links
from pypwru.resolve.interfaces import Interfaces
from pypwru.resolve.processes import Processes


class Proc:
    """A /proc of files that a test writes, and the time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.processes = Processes(str(folder), lambda: self.now)

    def run(self, pid: int, program: str | Path, comm: str = "comm", start: int = 1) -> None:
        self.end(pid)
        process = self.folder / str(pid)
        process.mkdir()
        numbers = " ".join(["S", *map(str, range(4, 22)), str(start), "0"])
        (process / "stat").write_text(f"{pid} ({comm}) {numbers}\n")
        if program:
            (process / "exe").symlink_to(program)

    def end(self, pid: int) -> None:
        process = self.folder / str(pid)
        for each in process.glob("*"):
            each.unlink()
        if process.exists():
            process.rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    (tmp_path / "proc").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("old")
    return Proc(tmp_path / "proc")


def test_a_program_has_its_links_resolved(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "link")
    assert proc.processes.path(5) == str(tmp_path / "old")


def test_comm_stands_in_for_a_file_that_is_not_there(proc: Proc) -> None:
    proc.run(5, "/nonexistent (deleted)", comm="odd) (name 7")
    proc.run(6, "", comm="kworker/0:1")
    assert proc.processes.path(5) == "odd) (name 7"
    assert proc.processes.path(6) == "kworker/0:1"
    assert proc.processes.path(0) == ""


def test_a_name_outlives_its_process(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "old")
    assert proc.processes.path(5).endswith("/old")
    proc.end(5)
    for proc.now in (0.5, 2.0, 4.0):
        assert proc.processes.path(5).endswith("/old")


@pytest.mark.parametrize("start", [1, 2])  # the same process after execve, and another process
def test_a_pid_that_runs_something_else_is_renamed(proc: Proc, tmp_path: Path, start: int) -> None:
    proc.run(5, tmp_path / "old")
    assert proc.processes.path(5).endswith("/old")
    proc.run(5, tmp_path / "new", start=start)
    proc.now = 0.9
    assert proc.processes.path(5).endswith("/old")
    proc.now = 1.0
    assert proc.processes.path(5).endswith("/new")


def test_a_reused_pid_of_a_kernel_thread_is_renamed(proc: Proc) -> None:
    proc.run(5, "", comm="kworker/0:1", start=1)
    assert proc.processes.path(5) == "kworker/0:1"
    proc.run(5, "", comm="kworker/1:0", start=2)
    proc.now = 1.0
    assert proc.processes.path(5) == "kworker/1:0"


def test_a_process_that_was_missing_is_found_later(proc: Proc, tmp_path: Path) -> None:
    assert proc.processes.path(5) == ""
    proc.run(5, tmp_path / "new")
    proc.now = 1.0
    assert proc.processes.path(5).endswith("/new")


def test_kept_processes_are_bounded(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypwru.resolve.processes._KEPT", 10)
    for pid in range(100):
        proc.processes.path(pid)
    assert len(proc.processes._kept) == 10


def test_this_very_process() -> None:
    assert Processes().path(os.getpid()) == os.path.realpath("/proc/self/exe")


class Machine:
    """Namespaces that a test changes, and how often they were looked at."""

    def __init__(self) -> None:
        self.namespaces: dict[int, dict[int, str]] = {1: {1: "lo"}}
        self.now = 0.0
        self.scans = 0
        self.reads = 0
        self.interfaces = Interfaces(self.find, self.read, lambda: self.now)

    def find(self) -> dict[int, str]:
        self.scans += 1
        return {inode: f"/proc/{inode}" for inode in self.namespaces}

    def read(self, paths: Mapping[int, str], own: int) -> dict[int, dict[int, str]]:
        self.reads += 1
        return {i: dict(self.namespaces[i]) for i in paths if i in self.namespaces}


def test_no_device_needs_no_look() -> None:
    machine = Machine()
    assert machine.interfaces.name(1, 0) == ""
    assert machine.reads == 0


def test_a_hit_reads_once() -> None:
    machine = Machine()
    assert [machine.interfaces.name(1, 1) for _ in range(9)] == ["lo"] * 9
    assert machine.reads == machine.scans == 1


def test_misses_scan_once_a_second() -> None:
    machine = Machine()
    assert machine.interfaces.name(2, 7) == ""
    machine.namespaces[2] = {7: "veth0"}
    for machine.now in (0.1, 0.5, 0.9):
        assert machine.interfaces.name(2, 7) == ""
    assert machine.scans == 1
    machine.now = 1.0
    assert machine.interfaces.name(2, 7) == "veth0"
    assert machine.scans == 2


def test_a_slow_scan_waits_longer() -> None:
    machine = Machine()
    find = machine.find

    def slowly() -> dict[int, str]:
        machine.now += 0.1
        return find()

    machine.interfaces = Interfaces(slowly, machine.read, lambda: machine.now)
    machine.interfaces.name(2, 7)
    machine.now = 5.0
    machine.interfaces.name(2, 7)
    assert machine.scans == 1
    machine.now = 5.2
    machine.interfaces.name(2, 7)
    assert machine.scans == 2


def test_an_old_name_is_read_again() -> None:
    machine = Machine()
    machine.interfaces.name(1, 1)
    machine.namespaces[1] = {1: "renamed"}
    machine.now = 4.9
    assert machine.interfaces.name(1, 1) == "lo"
    machine.now = 5.0
    assert machine.interfaces.name(1, 1) == "renamed"
    assert machine.scans == 1


def test_a_namespace_that_is_gone_keeps_its_names() -> None:
    machine = Machine()
    machine.interfaces.name(1, 1)
    del machine.namespaces[1]
    for machine.now in (5.0, 20.0):
        assert machine.interfaces.name(1, 1) == "lo"


def test_kept_namespaces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces_module, "_KEPT_NAMESPACES", 3)
    machine = Machine()
    for inode in range(10):
        machine.namespaces = {inode: {1: f"if{inode}"}}
        machine.now += 2
        assert machine.interfaces.name(inode, 1) == f"if{inode}"
    assert sorted(machine.interfaces._names) == [7, 8, 9]


def test_our_own_links_are_those_the_c_library_names() -> None:
    own = os.stat("/proc/self/ns/net").st_ino
    found = links.interfaces({own: "/proc/self/ns/net"}, own)
    assert found == {own: dict(socket.if_nameindex())}


def test_a_namespace_that_changed_or_went_is_left_out() -> None:
    own = os.stat("/proc/self/ns/net").st_ino
    wrong = {own + 1: "/proc/self/ns/net", 7: "/nonexistent"}
    assert links.interfaces(wrong, own) == {}


def test_a_refusal_of_netlink_is_an_error() -> None:
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    with pytest.raises(PermissionError):
        links.parse(refusal)


def test_a_short_datagram_ends() -> None:
    assert links.parse(b"") == ({}, False)
    assert links.parse(bytes(16)) == ({}, False)
    assert links.parse(struct.pack("=IHHII", 16, 3, 0, 1, 0)) == ({}, True)
