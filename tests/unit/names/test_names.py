"""Names of processes from a fake /proc, and of interfaces."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from pypwru.kernel import netns_links
from pypwru.names import processes as processes_module
from pypwru.names.processes import ProcessPaths, has_kernel_pids


class Proc:
    """A fake /proc of files, and a fake clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.processes = ProcessPaths(str(folder), lambda: self.now)

    def run(
        self, pid: int, program: str | Path, *threads: str, began: int = 0, start_stack: int = 0
    ) -> None:
        self.end(pid)
        process = self.folder / str(pid)
        for number, comm in enumerate(threads, start=pid):
            (process / "task" / str(number)).mkdir(parents=True)
            (process / "task" / str(number) / "comm").write_text(f"{comm}\n")
        (process / "comm").write_text(f"{threads[0]}\n")
        fields = ["S", *"0" * 18, str(began), *"0" * 5, str(start_stack), *"0" * 24]
        (process / "stat").write_text(f"{pid} ({threads[0]}) {' '.join(fields)}\n")
        if program:
            (process / "exe").symlink_to(program)

    def end(self, pid: int) -> None:
        shutil.rmtree(self.folder / str(pid), ignore_errors=True)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    (tmp_path / "proc").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("old")
    return Proc(tmp_path / "proc")


def test_program_links_are_resolved(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "link", "link")
    assert proc.processes.path(5, "link") == str(tmp_path / "old")


def test_comm_replaces_a_missing_file(proc: Proc) -> None:
    proc.run(5, "/nonexistent (deleted)", "odd) (name 7\n")
    proc.run(6, "", "kworker/0:1-events")
    assert proc.processes.path(5, "odd) (name 7\n") == "odd) (name 7\n"
    assert proc.processes.path(6, "kworker/0:1") == "kworker/0:1-events"
    assert proc.processes.path(6, "kworker/0") == ""
    assert proc.processes.path(0, "swapper/0") == ""


def test_name_outlives_its_process(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "old", "old")
    assert proc.processes.path(5, "old").endswith("/old")
    proc.end(5)
    for proc.now in (0.5, 2.0, 4.0):
        assert proc.processes.path(5, "old").endswith("/old")


def test_reused_pid_has_its_new_name(proc: Proc, tmp_path: Path) -> None:
    """After execve(), and of a process with the reused pid of another."""
    proc.run(5, tmp_path / "old", "old")
    assert proc.processes.path(5, "old").endswith("/old")
    proc.run(5, tmp_path / "new", "new")
    for proc.now in (0.0, 2.0):
        assert proc.processes.path(5, "new").endswith("/new")
        assert proc.processes.path(5, "old").endswith("/old")


def test_later_program_is_not_named(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "new", "new")
    for proc.now in (0.0, 2.0):
        assert proc.processes.path(5, "old") == ""


def test_same_comm_is_refreshed_after_1_s(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "old", "same")
    assert proc.processes.path(5, "same").endswith("/old")
    proc.run(5, tmp_path / "new", "same")
    proc.now = 0.9
    assert proc.processes.path(5, "same").endswith("/old")
    proc.now = 1.0
    assert proc.processes.path(5, "same").endswith("/new")


def test_threads_have_path_of_process(proc: Proc, tmp_path: Path) -> None:
    """All threads are read at once."""
    proc.run(5, tmp_path / "new", "main", "worker-1", "worker-2")
    assert proc.processes.path(5, "worker-1").endswith("/new")
    proc.end(5)
    assert proc.processes.path(5, "worker-2").endswith("/new")
    assert proc.processes.path(5, "main").endswith("/new")


def test_execve_during_lookup_names_none(
    proc: Proc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc.run(5, tmp_path / "old", "same")
    read = processes_module._read_comm

    def read_late(process: int, path: str) -> str:
        (proc.folder / "5/exe").unlink()
        (proc.folder / "5/exe").symlink_to(tmp_path / "new")
        return read(process, path)

    monkeypatch.setattr(processes_module, "_read_comm", read_late)
    assert proc.processes.path(5, "same") == ""


def test_missing_process_is_found_later(proc: Proc, tmp_path: Path) -> None:
    assert proc.processes.path(5, "new") == ""
    proc.run(5, tmp_path / "new", "new")
    proc.now = 1.0
    assert proc.processes.path(5, "new").endswith("/new")


EXITING = 1 << 63
TICK = 10_000_000  # ns


def test_reused_pid_with_the_same_comm(proc: Proc, tmp_path: Path) -> None:
    """Also after execve(): the start of the stack differs."""
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    proc.run(5, old, "same", start_stack=100)
    assert proc.processes.path(5, "same", 100) == old
    proc.run(5, new, "same", start_stack=200)
    assert proc.processes.path(5, "same", 200) == new
    assert proc.processes.path(5, "same", 100) == old
    assert proc.processes.path(5, "same", 300) == "", "a process in between"
    proc.now = 5.0
    assert proc.processes.path(5, "same", 100) == old
    assert proc.processes.path(5, "same", 300) == ""


def test_exiting_process_by_start_time(proc: Proc, tmp_path: Path) -> None:
    """It has no stack, and usually no entry in /proc: its start time identifies it."""
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    proc.run(5, old, "same", began=7, start_stack=100)
    assert proc.processes.path(5, "same", 100) == old
    proc.end(5)
    assert proc.processes.path(5, "same", EXITING | 7 * TICK + 3) == old
    assert proc.processes.path(5, "same", EXITING | 8 * TICK) == ""
    proc.run(5, new, "same", began=9, start_stack=200)
    assert proc.processes.path(5, "same", EXITING | 8 * TICK) == ""
    assert proc.processes.path(5, "same", EXITING | 9 * TICK) == new


def test_kernel_thread_by_start_time(proc: Proc) -> None:
    proc.run(6, "", "kworker/0:1-events", began=3)
    assert proc.processes.path(6, "kworker/0:1", EXITING | 3 * TICK) == "kworker/0:1-events"


def test_process_cache_is_bounded(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypwru.names.processes._MAX_CACHED", 10)
    for pid in range(100):
        proc.processes.path(pid, "comm")
    assert len(proc.processes._cache) == 10


def test_path_of_this_process() -> None:
    comm = Path("/proc/self/comm").read_text()[:-1]
    assert ProcessPaths().path(os.getpid(), comm) == os.path.realpath("/proc/self/exe")


def test_start_stack_of_this_process() -> None:
    own = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[25])
    comm = Path("/proc/self/comm").read_text()[:-1]
    assert ProcessPaths().path(os.getpid(), comm, own) == os.path.realpath("/proc/self/exe")
    assert ProcessPaths().path(os.getpid(), comm, own + 16) == ""


def test_real_execve_and_named_threads() -> None:
    """The oracle is the kernel: a shell, sleep, and names of threads."""
    shell = os.path.realpath("/bin/sh")
    sleep = os.path.realpath(shutil.which("sleep") or "")
    processes = ProcessPaths()
    with subprocess.Popen(
        ["/bin/sh", "-c", "echo; read _; exec sleep 60"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        assert processes.path(process.pid, "sh") == shell
        assert processes.path(process.pid, "sleep") == ""
        process.stdin.write(b"\n")
        process.stdin.flush()
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            pass
        assert ProcessPaths().path(process.pid, "sleep") == sleep
        assert ProcessPaths().path(process.pid, "sh") == ""
        assert processes.path(process.pid, "sh") == shell
        process.kill()

    names: queue.Queue[str] = queue.Queue()
    done = threading.Event()

    def work() -> None:
        Path("/proc/thread-self/comm").write_text("busy bee")
        names.put("busy bee")
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    assert ProcessPaths().path(os.getpid(), names.get()) == os.path.realpath("/proc/self/exe")
    done.set()
    thread.join()


@pytest.mark.parametrize(
    ("init_inode", "own_inode", "expected"),
    [
        (4026531836, 4026531836, True),
        (4026532500, 4026532500, False),
        (4026531836, 4026532500, True),  # the host's procfs in a container
        (None, 4026531836, True),  # without the right to read pid 1
        (None, 4026532500, False),
        (None, None, True),
    ],
)
def test_has_kernel_pids(
    init_inode: int | None, own_inode: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes = {"/p/1/ns/pid": init_inode, "/p/self/ns/pid": own_inode}

    def stat(path: str) -> os.stat_result:
        if (inode := inodes[path]) is None:
            raise PermissionError(13, path)
        return os.stat_result((0, inode, *[0] * 8))

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat)
        has = has_kernel_pids("/p")
    assert has is expected


def test_links_equal_libc() -> None:
    assert netns_links.interface_names() == dict(socket.if_nameindex())


def test_netlink_error_is_raised() -> None:
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    with pytest.raises(PermissionError):
        netns_links.parse_dump(refusal)


def test_short_datagram() -> None:
    assert netns_links.parse_dump(b"") == ({}, False)
    assert netns_links.parse_dump(bytes(16)) == ({}, False)
    assert netns_links.parse_dump(struct.pack("=IHHII", 16, 3, 0, 1, 0)) == ({}, True)
