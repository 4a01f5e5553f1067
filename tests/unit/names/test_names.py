"""Names of processes from a stand-in of /proc, and of interfaces."""

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
    """A /proc of files that a test writes, and the time."""

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


def test_a_program_has_its_links_resolved(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "link", "link")
    assert proc.processes.path(5, "link") == str(tmp_path / "old")


def test_comm_stands_in_for_a_file_that_is_not_there(proc: Proc) -> None:
    proc.run(5, "/nonexistent (deleted)", "odd) (name 7\n")
    proc.run(6, "", "kworker/0:1-events")
    assert proc.processes.path(5, "odd) (name 7\n") == "odd) (name 7\n"
    assert proc.processes.path(6, "kworker/0:1") == "kworker/0:1-events"
    assert proc.processes.path(6, "kworker/0") == ""
    assert proc.processes.path(0, "swapper/0") == ""


def test_a_name_outlives_its_process(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "old", "old")
    assert proc.processes.path(5, "old").endswith("/old")
    proc.end(5)
    for proc.now in (0.5, 2.0, 4.0):
        assert proc.processes.path(5, "old").endswith("/old")


def test_a_pid_that_runs_something_else_is_another_at_once(proc: Proc, tmp_path: Path) -> None:
    """As after execve(), and of a process that is given the pid of one that ended."""
    proc.run(5, tmp_path / "old", "old")
    assert proc.processes.path(5, "old").endswith("/old")
    proc.run(5, tmp_path / "new", "new")
    for proc.now in (0.0, 2.0):
        assert proc.processes.path(5, "new").endswith("/new")
        assert proc.processes.path(5, "old").endswith("/old")


def test_a_program_that_came_later_is_not_named(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "new", "new")
    for proc.now in (0.0, 2.0):
        assert proc.processes.path(5, "old") == ""


def test_the_same_name_of_another_file_is_found_within_a_second(proc: Proc, tmp_path: Path) -> None:
    proc.run(5, tmp_path / "old", "same")
    assert proc.processes.path(5, "same").endswith("/old")
    proc.run(5, tmp_path / "new", "same")
    proc.now = 0.9
    assert proc.processes.path(5, "same").endswith("/old")
    proc.now = 1.0
    assert proc.processes.path(5, "same").endswith("/new")


def test_a_thread_is_of_its_process(proc: Proc, tmp_path: Path) -> None:
    """And all of them are read at once, however many there are."""
    proc.run(5, tmp_path / "new", "main", "worker-1", "worker-2")
    assert proc.processes.path(5, "worker-1").endswith("/new")
    proc.end(5)
    assert proc.processes.path(5, "worker-2").endswith("/new")
    assert proc.processes.path(5, "main").endswith("/new")


def test_execve_while_it_is_looked_up_names_nobody(
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


def test_a_process_that_was_missing_is_found_later(proc: Proc, tmp_path: Path) -> None:
    assert proc.processes.path(5, "new") == ""
    proc.run(5, tmp_path / "new", "new")
    proc.now = 1.0
    assert proc.processes.path(5, "new").endswith("/new")


ENDING = 1 << 63
TICK = 10_000_000  # ns


def test_a_pid_that_is_given_again_to_a_program_of_the_same_name(
    proc: Proc, tmp_path: Path
) -> None:
    """And execve() of such a one: where its stack begins is another's."""
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


def test_a_process_at_its_end_is_the_one_that_began_then(proc: Proc, tmp_path: Path) -> None:
    """It has no stack any more, and mostly no program in /proc."""
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    proc.run(5, old, "same", began=7, start_stack=100)
    assert proc.processes.path(5, "same", 100) == old
    proc.end(5)
    assert proc.processes.path(5, "same", ENDING | 7 * TICK + 3) == old
    assert proc.processes.path(5, "same", ENDING | 8 * TICK) == ""
    proc.run(5, new, "same", began=9, start_stack=200)
    assert proc.processes.path(5, "same", ENDING | 8 * TICK) == ""
    assert proc.processes.path(5, "same", ENDING | 9 * TICK) == new


def test_a_kernel_thread_has_no_stack_of_a_program(proc: Proc) -> None:
    proc.run(6, "", "kworker/0:1-events", began=3)
    assert proc.processes.path(6, "kworker/0:1", ENDING | 3 * TICK) == "kworker/0:1-events"


def test_kept_processes_are_bounded(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypwru.names.processes._MAX_CACHED", 10)
    for pid in range(100):
        proc.processes.path(pid, "comm")
    assert len(proc.processes._cache) == 10


def test_this_very_process() -> None:
    comm = Path("/proc/self/comm").read_text()[:-1]
    assert ProcessPaths().path(os.getpid(), comm) == os.path.realpath("/proc/self/exe")


def test_the_kernel_draws_where_a_stack_begins() -> None:
    own = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[25])
    comm = Path("/proc/self/comm").read_text()[:-1]
    assert ProcessPaths().path(os.getpid(), comm, own) == os.path.realpath("/proc/self/exe")
    assert ProcessPaths().path(os.getpid(), comm, own + 16) == ""


def test_a_real_execve_and_threads_with_names() -> None:
    """The shell, sleep and the names themselves are the kernel's own account."""
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
    ("of_first", "of_self", "found"),
    [
        (4026531836, 4026531836, True),
        (4026532500, 4026532500, False),
        (4026531836, 4026532500, True),  # the host's procfs in a container
        (None, 4026531836, True),  # without the right to look at pid 1
        (None, 4026532500, False),
        (None, None, True),
    ],
)
def test_whose_pids_proc_has(
    of_first: int | None, of_self: int | None, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes = {"/p/1/ns/pid": of_first, "/p/self/ns/pid": of_self}

    def stat(path: str) -> os.stat_result:
        if (inode := inodes[path]) is None:
            raise PermissionError(13, path)
        return os.stat_result((0, inode, *[0] * 8))

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat)
        has = has_kernel_pids("/p")
    assert has is found


def test_our_own_links_are_those_the_c_library_names() -> None:
    assert netns_links.interface_names() == dict(socket.if_nameindex())


def test_a_refusal_of_netlink_is_an_error() -> None:
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    with pytest.raises(PermissionError):
        netns_links.parse_dump(refusal)


def test_a_short_datagram_ends() -> None:
    assert netns_links.parse_dump(b"") == ({}, False)
    assert netns_links.parse_dump(bytes(16)) == ({}, False)
    assert netns_links.parse_dump(struct.pack("=IHHII", 16, 3, 0, 1, 0)) == ({}, True)
