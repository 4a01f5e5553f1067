"""Statistics of real runs: equal to a recount of the same run's lines, printed on request."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.native.tracing import TIMEOUT, Network, Run, ip, network, pypwru, tracing
from tests.oracles.recount import document_counts, document_locations, located, recount, validate

pytestmark = pytest.mark.native

SCHEMA = json.loads(resources.files("pypwru.data").joinpath("statistics.schema.json").read_text())
RECOUNTED = ("--output-json", "--timestamp=current", "--output-caller")
SUBSETS: tuple[list[str], ...] = (
    [],
    ["--sample-rate=2"],
    ["--max-hits=3"],
    ["--output-limit-lines=17"],
    ["--drops"],
)


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def traffic(net: Network) -> None:
    """Send pings, which are answered, and datagrams to a port without a socket."""
    net.ping(net.v4(2), "-c10", "-i0.01")
    net.run("bash", "-c", f"for i in 1 2 3; do echo x > /dev/udp/{net.v4(2)}/9; done")


@pytest.mark.parametrize("subset", SUBSETS, ids=lambda subset: "".join(subset) or "all")
def test_recount_of_lines_is_equal(net: Network, tmp_path: Path, subset: list[str]) -> None:
    file = tmp_path / "stats.json"
    limited = any("limit-lines" in word for word in subset)
    stop = None if limited else signal.SIGINT
    words = [*RECOUNTED, *subset, f"--stats-file={file}", f"host {net.v4(2)} and (icmp or udp)"]
    with tracing(*words, stop=stop) as run:
        traffic(net)
    assert run.status == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    document = json.loads(file.read_text())
    validate(SCHEMA, document)
    counted = recount(lines)
    assert counted == document_counts(document)
    assert document["final"]
    assert document["counters"] == run.done
    assert counted["events"] == run.done["events"] > 10
    if "--drops" in subset:
        assert located(lines) == document_locations(document)
    if "--drops" in subset or not subset:
        assert sum(row["drops"] for row in document["drops"]) >= 3


# Messages of Unix and netlink sockets that are never read, and datagrams to a port without a
# socket; prints how many of these the kernel counted.
_UNREAD = """
import socket

def no_ports():
    names, numbers = (line.split() for line in open("/proc/net/snmp") if line.startswith("Udp:"))
    return int(dict(zip(names, numbers))["NoPorts"])

before = no_ports()
for _ in range(20):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_USERSOCK) as end:
        end.bind((0, 0))
        end.sendto(bytes(32), end.getsockname())
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        ends = socket.socketpair(socket.AF_UNIX, kind)
        ends[0].send(bytes(32))
        ends[1].close()
        ends[0].close()
for port in range(9, 16):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(b"x", ("127.0.0.1", port))
print(no_ports() - before)
"""


@pytest.fixture
def quiet(net: Network) -> Iterator[str]:
    """Return a namespace without neighbours: IPv6 drops their messages to groups that it hasn't
    joined.
    """
    name = f"{net.left}-q"
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    yield name
    ip("netns", "delete", name)


@pytest.mark.parametrize("shown", ["--stats-file", "--drops"])
def test_messages_of_sockets_are_no_drops(quiet: str, tmp_path: Path, shown: str) -> None:
    file, output = tmp_path / "stats.json", tmp_path / "output.json"
    words = [f"--filter-netns=/run/netns/{quiet}", f"--stats-file={file}", "--output-json"]
    words.append(f"--output-file={output}")

    def freed() -> int:
        lines = [json.loads(line) for line in output.read_bytes().splitlines(keepends=True)
                 if line.endswith(b"\n")]  # fmt: skip
        return sum(line["type"] == "drop" and not line["tuple"] for line in lines)

    with tracing(*words, *(["--drops"] if shown == "--drops" else [])) as run:
        words = ["ip", "netns", "exec", quiet, sys.executable, "-c", _UNREAD]
        counted = int(subprocess.run(words, capture_output=True, check=True).stdout)
        end = time.monotonic() + 20
        # Netlink frees its messages after a grace period of RCU. A few may never come: the kernel
        # skips a handler that interrupts another one, and counts it.
        while shown != "--drops" and freed() < 60 and time.monotonic() < end:
            time.sleep(0.1)
    assert run.status == 0, run.stderr
    if shown != "--drops":
        lost = sum(number for name, number in run.done.items() if name.startswith("lost_"))
        assert freed() + lost >= 60, "only --drops leaves them out"
    document = json.loads(file.read_text())
    drops = {row["reason"]: row["drops"] for row in document["drops"] if row["drops"]}
    assert drops == {"SKB_DROP_REASON_NO_SOCKET": counted}
    if shown == "--drops":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert len({line["packet_id"] for line in lines}) == counted


# Connects more often than the queue of a listening socket has room for.
_CROWD = """
import socket, sys, time

def listen_drops():
    lines = open("/proc/net/netstat").read().splitlines()
    names, numbers = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, numbers))["ListenDrops"])

before = listen_drops()
with socket.create_server(("127.0.0.1", 6031), backlog=0) as listening:
    clients = [socket.socket() for _ in range(6)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", 6031))
    end = time.monotonic() + 10
    while listen_drops() - before < 4 and time.monotonic() < end:
        time.sleep(0.05)
print(listen_drops() - before)
"""


@pytest.mark.parametrize("words", [["--drops"], ["--stats"], ["--output-journey"]])
def test_listen_drops_are_logged(net: Network, words: list[str]) -> None:
    net.run("ip", "link", "set", "lo", "up")
    with tracing(*words, f"host {net.v4(2)}") as run:
        counted = int(net.run(sys.executable, "-c", _CROWD).stdout)
    assert run.status == 0, run.stderr
    assert counted >= 4
    (warning,) = re.findall(r" WARN (TcpExtListenDrops grew by .*)", run.stderr)
    assert warning.startswith(
        f"TcpExtListenDrops grew by {counted} in network namespace {net.left}: "
    )


def test_stats_prints_report_instead_of_lines(net: Network) -> None:
    with tracing("--stats", f"host {net.v4(2)}") as run:
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    assert run.stdout == ""
    assert re.search(r"^  packets 2$", run.stderr, re.MULTILINE)
    assert re.search(r"^functions", run.stderr, re.MULTILINE)
    assert not re.search(r"^nftables", run.stderr, re.MULTILINE), (
        "there are no nft events without kprobes"
    )


def wait_for(run: Run, fact: Callable[[], bool]) -> None:
    """Poll until ``fact`` is true; fail if the run has ended."""
    end = time.monotonic() + TIMEOUT
    while not fact():
        assert run.process.poll() is None and time.monotonic() < end
        select.select([], [], [], 0.02)


def test_stats_file_is_replaced_each_interval(net: Network, tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    times = set()
    with tracing(f"--stats-file={file}", "--stats-interval=1", f"host {net.v4(2)}") as run:

        def three() -> bool:
            net.ping(net.v4(2))
            if file.exists():
                document = json.loads(file.read_text())
                validate(SCHEMA, document)
                assert not document["final"]
                times.add(document["time"])
            return len(times) >= 3

        wait_for(run, three)
    assert json.loads(file.read_text())["final"]
    assert [path.name for path in tmp_path.iterdir()] == ["stats.json"]


def test_sigusr1_writes_stats_file(net: Network, tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    with tracing(f"--stats-file={file}", f"host {net.v4(2)}") as run:
        run.process.send_signal(signal.SIGUSR1)
        wait_for(run, file.exists)
        assert not json.loads(file.read_text())["final"]
    assert run.status == 0, run.stderr


def test_sigusr1_without_statistics_logs_counters(net: Network) -> None:
    with tracing("--output-limit-lines=1", f"icmp and host {net.v4(2)}", stop=None) as run:
        run.process.send_signal(signal.SIGUSR1)
        wait_for(run, lambda: signal.SIGUSR1 not in pending(run))
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    assert re.search(r"INFO So far events=0 produced=0 ", run.stderr)


def pending(run: Run) -> set[int]:
    """Return the signals that are pending."""
    text = Path(f"/proc/{run.process.pid}/status").read_text()
    found = re.search(r"^ShdPnd:\s*(\w+)$", text, re.MULTILINE)
    assert found
    bits = int(found[1], 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def test_unwritable_stats_file_is_error_at_start(tmp_path: Path) -> None:
    done = pypwru("--backend=tracepoint", f"--stats-file={tmp_path}/none/stats.json", "icmp")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("No such file or directory: choose another --stats-file")


def test_stats_file_in_removed_folder_is_error(net: Network, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    with tracing(f"--stats-file={folder}/stats.json", f"host {net.v4(2)}") as run:
        folder.rmdir()
        run.process.send_signal(signal.SIGUSR1)
        wait_for(run, lambda: signal.SIGUSR1 not in pending(run))
        net.ping(net.v4(2))
    assert run.status == 1, run.stderr
    assert "WARN Failed to write statistics why=" in run.stderr, "until then it goes on"
    assert run.done["events"] > 0
    assert run.stderr.splitlines()[-1].startswith(f"pypwru: can't write {folder}/stats.json")


def test_report_has_losses(net: Network) -> None:
    with tracing("--stats", "--buffer-size=4096", f"host {net.v4(2)}") as run:
        run.process.send_signal(signal.SIGSTOP)
        net.ping(net.v4(2), "-c20", "-i0.01")
        run.process.send_signal(signal.SIGCONT)
    assert run.done["lost_ring_full"] > 0
    assert re.search(
        r"^  INCOMPLETE, .*\n    [\d,]+ events found no room", run.stderr, re.MULTILINE
    )


@pytest.fixture
def protected_shared_folders() -> Iterator[None]:
    """Set the sysctls of every Debian; a container may have others."""
    settings = [Path("/proc/sys/fs", name) for name in ("protected_symlinks", "protected_regular")]
    before = [setting.read_text() for setting in settings]
    for setting in settings:
        setting.write_text("1")
    yield
    for setting, value in zip(settings, before, strict=True):
        setting.write_text(value)


@pytest.mark.usefixtures("protected_shared_folders")
@pytest.mark.parametrize("make", ["link", "file"])
def test_stats_file_of_other_user_is_refused(tmp_path: Path, make: str) -> None:
    """The oracle is the kernel, which refuses the same to a shell."""
    shared, precious = tmp_path / "shared", tmp_path / "precious"
    shared.mkdir()
    shared.chmod(0o1777)
    precious.write_text("precious")
    path = shared / "stats.json"
    if make == "link":
        path.symlink_to(precious)
    else:
        path.touch()
    os.lchown(path, 65534, 65534)
    shell = subprocess.run(["sh", "-c", ': >>"$1"', "sh", path], capture_output=True, check=False)
    assert b"ermission denied" in shell.stderr
    ended = pypwru("--stats", f"--stats-file={path}", "icmp")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        f"pypwru: can't write {path}: Permission denied"
    )
    assert precious.read_text() == "precious"
