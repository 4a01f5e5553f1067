"""Text output of a real run, where it goes, and how the run ends."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.cli.run import CLOSED, SIGNAL
from tests.native.tracing import (
    COMMAND,
    HEADER,
    TIMEOUT,
    Network,
    Run,
    environment,
    network,
    tracing,
)

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def ping(net: Network, *arguments: str) -> Run:
    """Return a run with ``arguments`` that traces one ping."""
    with tracing(*arguments, f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    return run


def titles(run: Run) -> list[str]:
    return run.stdout.splitlines()[0].split()


def column(run: Run, title: str) -> list[str]:
    position = titles(run).index(title)
    return [line.split()[position] for line in run.stdout.splitlines()[1:]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_run_with_summary(net: Network, number: int) -> None:
    with tracing(f"icmp and host {net.v4(2)}", stop=number) as run:
        net.ping(net.v4(2))
    assert run.status == 0
    messages = [line.split(" ", 3)[3] for line in run.stderr.splitlines()]
    assert "Received signal, exiting program.." in messages
    assert messages[-1].startswith("Done events=")
    assert run.done["events"] == len(run.lines) > 0
    assert run.done["attached"] > 10


def test_signal_ends_idle_run(net: Network) -> None:
    with tracing(f"icmp and host {net.v4(77)}") as run:
        pass
    assert run.status == 0
    assert run.lines == []
    assert "INFO No packet matched" in run.stderr


def test_terminal_shows_that_nothing_matched(net: Network) -> None:
    """While the run goes on, and packets that the filter rejects pass."""
    ours, theirs = pty.openpty()
    words = [*COMMAND, "--backend=tracepoint", f"icmp and host {net.v4(77)}"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=theirs, env=environment()
    ) as process:
        os.close(theirs)
        log, end = b"", time.monotonic() + TIMEOUT
        while b"No packet matched so far; others pass traced functions" not in log:
            assert time.monotonic() < end, log
            if select.select([ours], [], [], 0)[0]:
                log += os.read(ours, 1 << 12)
            net.ping(net.v4(2))
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
    os.close(ours)


def test_terminal_shows_steps_of_start(tmp_path: Path) -> None:
    """Each step that takes a while without a cache is shown."""
    ours, theirs = pty.openpty()
    words = [*COMMAND, "--backend=tracepoint", "icmp and host 10.255.255.254"]
    with subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment(PYPWRU_CACHE=str(tmp_path / "cache")),
    ) as process:
        os.close(theirs)
        log, end = b"", time.monotonic() + TIMEOUT
        while b"Listening for events" not in log:
            assert time.monotonic() < end, log
            if select.select([ours], [], [], 1)[0]:
                log += os.read(ours, 1 << 12)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
    os.close(ours)
    steps = re.findall(r"\r\x1b\[K([A-Z][a-z ]+)\.\.\.", log.decode())
    assert list(dict.fromkeys(steps)) == [
        "Compiling the filter",
        "Looking for functions that take a packet",
        "Compiling the handlers",
        "Attaching",
    ]


@pytest.mark.parametrize("limit", [1, 5])
def test_output_limit_lines_ends_run(net: Network, limit: int) -> None:
    with tracing(f"--output-limit-lines={limit}", f"icmp and host {net.v4(2)}", stop=None) as run:
        net.ping(net.v4(2))
    assert run.status == 0
    assert len(run.lines) == limit == run.done["events"]
    assert "Printed events, exiting program.." in run.stderr
    assert run.done["produced"] == limit + run.done["not_shown"] + run.done["lost_ring_full"]


def test_closed_pipe_ends_run(net: Network) -> None:
    head = subprocess.Popen(["head", "-2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert head.stdin and head.stdout
    with head, tracing(f"icmp and host {net.v4(2)}", stop=None, stdout=head.stdin) as run:
        head.stdin.close()
        net.ping(net.v4(2))  # head ends
        assert head.wait(TIMEOUT) == 0
        net.ping(net.v4(2))
        run.process.wait(TIMEOUT)
        kept = head.stdout.read().decode().splitlines()
    assert run.status == 0
    assert kept[0].split() == HEADER
    assert len(kept) == 2
    assert CLOSED.message in run.stderr
    assert "Traceback" not in run.stderr and "Broken pipe" not in run.stderr


def test_busy_terminal_gets_whole_lines(net: Network) -> None:
    """It is read only once it has been full for a while, and the signal has come."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    got = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 1 << 12):
                got.extend(part)

    reader = threading.Thread(target=read)
    with (
        open(theirs, "wb") as terminal,
        tracing(f"icmp and host {net.v4(2)}", stop=None, stdout=terminal) as run,
    ):
        net.ping(net.v4(2), "-c100", "-i0.002")
        run.process.send_signal(signal.SIGINT)
        reader.start()
        run.process.wait(TIMEOUT)
    reader.join()
    os.close(ours)
    assert run.status == 0
    assert SIGNAL.message in run.stderr and CLOSED.message not in run.stderr
    header, *lines = bytes(got).decode().split("\n")
    assert header.split() == HEADER and lines.pop() == ""
    assert {len(line.split()) for line in lines} == {len(HEADER)}
    assert len(lines) == run.done["events"] > 500


def test_hangup_of_terminal_ends_run(net: Network) -> None:
    ours, theirs = pty.openpty()
    with (
        open(theirs, "wb") as terminal,
        tracing(f"icmp and host {net.v4(2)}", stop=None, stdout=terminal) as run,
    ):
        os.close(ours)
        net.ping(net.v4(2))
        run.process.wait(TIMEOUT)
    assert run.status == 0
    assert CLOSED.message in run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_each_signal_logs_summary(net: Network, number: signal.Signals) -> None:
    anew = ("env", f"--default-signal={number.name}")  # nohup(1) may run the tests
    with tracing(f"icmp and host {net.v4(2)}", before=anew, stop=number) as run:
        net.ping(net.v4(2))
    assert run.status == 0
    assert run.done["events"] == len(run.lines) > 0


def test_repeated_signals_are_one_request(net: Network) -> None:
    """As of ``timeout -s INT``, which signals its child and then the group."""
    with tracing("--stats", f"icmp and host {net.v4(2)}", stop=None) as run:
        net.ping(net.v4(2))
        for _ in range(20):
            run.process.send_signal(signal.SIGINT)
        run.process.wait(TIMEOUT)
    assert run.status == 0
    assert "the whole trace" in run.stderr and run.done["events"] > 0


def test_stdout_without_reader_is_no_error(tmp_path: Path) -> None:
    """Even the header can't be written."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as stdout:
        ended = subprocess.run(
            [*COMMAND, "--backend=tracepoint", "icmp"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=TIMEOUT,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_output_file_is_appended_to(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    events = 0
    for runs in (1, 2):
        run = ping(net, f"--output-file={path}")
        assert run.stdout == ""
        lines = path.read_text().splitlines()
        assert [line.split() for line in lines].count(HEADER) == runs
        events += run.done["events"]
        assert len(lines) == events + runs


def test_rotated_output_file_loses_nothing(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "trace.log"
    flags = (f"--output-file={path}", "--output-file-max-size=1", "--output-file-compress")
    holds_all = "--buffer-size=64M"  # if need be
    with tracing(*flags, holds_all, f"icmp and host {net.v4(2)}") as run:
        flooded = net.run("ping", "-f", "-q", "-c", "2000", net.v4(2))
        assert flooded.returncode == 0, flooded.stderr
    assert run.status == 0, run.stderr
    assert run.done["lost_ring_full"] == 0
    *rotated, last = sorted(tmp_path.iterdir())
    assert last == path
    assert len(rotated) > 2 and all(each.name.endswith(".log.gz") for each in rotated)
    parts = [*(gzip.decompress(each.read_bytes()) for each in rotated), last.read_bytes()]
    assert all(len(part) <= 1 << 20 and part.endswith(b"\n") for part in parts)
    lines = b"".join(parts).decode().splitlines()
    assert [line.split() for line in lines].count(HEADER) == 1
    assert len(lines) == run.done["events"] + 1
    assert {len(line.split()) for line in lines} == {len(HEADER)}


def test_ready_file_precedes_header(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text("of the last run")
    process = subprocess.Popen(
        [*COMMAND, "--backend=tracepoint", f"--ready-file={path}", "host 10.255.255.254"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    with process:
        assert process.stdout and process.stdout.readline().split() == [
            title.encode() for title in HEADER
        ]
        assert path.read_bytes() == b""
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0


def test_output_meta_false_omits_columns(net: Network) -> None:
    run = ping(net, "--output-meta=false")
    assert titles(run) == ["SKB", "CPU", "PROCESS", "TUPLE", "FUNC"]
    assert f"{net.v4(1)}:0->{net.v4(2)}:0(icmp)" in column(run, "TUPLE")


def test_output_tuple_false_omits_column(net: Network) -> None:
    run = ping(net, "--output-tuple=false")
    assert titles(run) == [title for title in HEADER if title != "TUPLE"]
    assert "0x0800" in column(run, "PROTO")
    assert net.v4(1) not in run.stdout


def test_output_without_meta_and_tuple(net: Network) -> None:
    run = ping(net, "--output-meta=false", "--output-tuple=false")
    assert titles(run) == ["SKB", "CPU", "PROCESS", "FUNC"]
    assert "tp:netif_receive_skb" in column(run, "FUNC")


def test_timestamp_current_is_monotonic(net: Network) -> None:
    """Times of one packet rise; of two CPUs the later event may come first."""
    before = time.monotonic_ns()
    run = ping(net, "--timestamp=current")
    after = time.monotonic_ns()
    times: dict[str, list[int]] = {}
    for packet, text in zip(column(run, "SKB"), column(run, "TIMESTAMP"), strict=True):
        times.setdefault(packet, []).append(int(text))
    for each in times.values():
        assert each == sorted(each)
        assert before < each[0] <= each[-1] < after


def test_timestamp_relative_begins_at_zero(net: Network) -> None:
    """It begins anew with each packet, although addresses of sk_buffs are reused."""
    count = 20
    with tracing("--timestamp=relative", f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2), "-c", str(count), "-i", "0.01")
    times = [int(text) for text in column(run, "TIMESTAMP")]
    assert times.count(0) == 2 * count  # requests and replies
    assert min(times) == 0
    assert len(set(column(run, "SKB"))) < 2 * count, "no address was reused: nothing is tested"


def test_timestamp_absolute_is_local_time(net: Network) -> None:
    before = time.time()
    run = ping(net, "--timestamp=absolute")
    after = time.time()
    assert titles(run)[0] == "TIME"
    for text in column(run, "TIME"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", text)
        seconds = time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        assert before - 2 < seconds < after + 1


def test_filter_func_selects_tracepoints(net: Network) -> None:
    run = ping(net, "--filter-func=netif_r.*")
    functions = set(column(run, "FUNC"))
    assert "tp:netif_receive_skb" in functions
    assert all(function.startswith("tp:netif_r") for function in functions)
    assert run.done["attached"] < 10


def test_debug_logs_filter(net: Network, tmp_path: Path) -> None:
    with tracing(
        "--debug", f"icmp and host {net.v4(2)}", env=environment(TMPDIR=str(tmp_path))
    ) as run:
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    assert " DEBUG Compiled the filter" in run.stderr
    assert ' DEBUG eBPF of the filter view="L2 (Ethernet)"\n(000) ' in run.stderr


def limited(blocks: int) -> tuple[str, ...]:
    """Return a command that runs another with a limit of so many blocks of 512 bytes per file."""
    return ("sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh")


@pytest.mark.parametrize(
    ("flags", "has_other_output"),
    [
        (("--output-file={}/trace",), False),
        (("--output-file={}/trace", "--output-json"), False),
        (("--output-file={}/trace", "--output-journey"), False),
        (("--output-pcap={}/x.pcapng", "--output-text=false"), False),
        (("--output-pcap={}/x.pcap", "--pcap-when=every"), True),
        (("--stats-file={}/stats.json",), True),  # a report would be too large, too
    ],
    ids=str,
)
def test_full_disk_is_error_with_summary(
    net: Network, tmp_path: Path, flags: tuple[str, ...], has_other_output: bool
) -> None:
    """A run with another output goes on until it is stopped."""
    words = [flag.format(tmp_path) for flag in flags]
    with Path(os.devnull).open("wb") as null, tracing(
        *words, f"icmp and host {net.v4(2)}",
        before=limited(2), stop=signal.SIGINT if has_other_output else None, stdout=null,
    ) as run:  # fmt: skip
        net.ping(net.v4(2), "-c60", "-i0.002")
    assert run.status == 1, run.stderr
    last = run.stderr.splitlines()[-1]
    assert last.startswith("pypwru: can't write") and "File too large" in last
    assert run.done, "the summary is logged"
    text = (tmp_path / "trace").read_bytes() if (tmp_path / "trace").exists() else b"\n"
    assert text.endswith(b"\n")
    if flags == ("--output-file={}/trace",):
        assert text.count(b"\n") == run.done["events"] + 1
    elif flags[1:] == ("--output-json",):
        assert len([json.loads(line) for line in text.splitlines()]) == run.done["events"]


def test_removed_folder_is_error(net: Network, tmp_path: Path) -> None:
    for flags in (["--output-file={}/trace"], ["--stats", "--stats-file={}/stats.json"]):
        folder = tmp_path / "sub"
        folder.mkdir()
        words = [flag.format(folder) for flag in flags]
        with tracing(*words, f"icmp and host {net.v4(2)}") as run:
            net.ping(net.v4(2))
            shutil.rmtree(folder)
        assert run.status == 1 and run.done
        assert str(folder) in run.stderr.splitlines()[-1]


def test_closed_pipe_ends_idle_run() -> None:
    reading, writing = os.pipe()
    with (
        os.fdopen(writing, "wb") as out,
        tracing("icmp and host 10.255.255.254", stdout=out, stop=None) as run,
    ):
        os.close(reading)
    assert run.status == 0 and CLOSED.message in run.stderr
