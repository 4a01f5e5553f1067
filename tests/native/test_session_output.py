"""What a real run prints, where to, and how it ends."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.run import CLOSED
from tests.native.tracing import (
    COMMAND,
    HEADER,
    PATIENCE,
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
    """A run with ``arguments`` that sees one ping."""
    with tracing(*arguments, f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2))
    assert run.status == 0, run.stderr
    return run


def titles(run: Run) -> list[str]:
    return run.stdout.splitlines()[0].split()


def column(run: Run, title: str) -> list[str]:
    place = titles(run).index(title)
    return [line.split()[place] for line in run.stdout.splitlines()[1:]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(net: Network, number: int) -> None:
    with tracing(f"icmp and host {net.v4(2)}", stop=number) as run:
        net.ping(net.v4(2))
    assert run.status == 0
    messages = [line.split(" ", 3)[3] for line in run.stderr.splitlines()]
    assert "Received signal, exiting program.." in messages
    assert messages[-1].startswith("Done events=")
    assert run.done["events"] == len(run.lines) > 0
    assert run.done["attached"] > 10


def test_an_idle_run_answers_a_signal(net: Network) -> None:
    with tracing(f"icmp and host {net.v4(77)}") as run:
        pass
    assert run.status == 0
    assert run.lines == []


@pytest.mark.parametrize("limit", [1, 5])
def test_the_limit_of_lines(net: Network, limit: int) -> None:
    with tracing(f"--output-limit-lines={limit}", f"icmp and host {net.v4(2)}", stop=None) as run:
        net.ping(net.v4(2))
    assert run.status == 0
    assert len(run.lines) == limit == run.done["events"]
    assert "Printed events, exiting program.." in run.stderr
    assert run.done["produced"] == limit + run.done["not_shown"] + run.done["lost_ring_full"]


def test_a_reader_that_goes_away(net: Network) -> None:
    head = subprocess.Popen(["head", "-2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert head.stdin and head.stdout
    with head, tracing(f"icmp and host {net.v4(2)}", stop=None, stdout=head.stdin) as run:
        head.stdin.close()
        net.ping(net.v4(2))  # head ends
        assert head.wait(PATIENCE) == 0
        net.ping(net.v4(2))
        run.process.wait(PATIENCE)
        kept = head.stdout.read().decode().splitlines()
    assert run.status == 0
    assert kept[0].split() == HEADER
    assert len(kept) == 2
    assert CLOSED.message in run.stderr
    assert "Traceback" not in run.stderr and "Broken pipe" not in run.stderr


def test_a_reader_that_never_was(tmp_path: Path) -> None:
    """Even the header finds nobody."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as stdout:
        ended = subprocess.run(
            [*COMMAND, "--backend=tracepoint", "icmp"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=PATIENCE,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_output_file_is_appended_to(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    events = 0
    for runs in (1, 2):
        run = ping(net, f"--output-file={path}")
        assert run.stdout == ""
        lines = path.read_text().splitlines()
        assert [line.split() for line in lines].count(HEADER) == runs
        events += run.done["events"]
        assert len(lines) == events + runs


def test_an_output_file_that_rotates_loses_nothing(net: Network, tmp_path: Path) -> None:
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


def test_a_ready_file_is_there_before_the_header(tmp_path: Path) -> None:
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
        assert process.wait(PATIENCE) == 0


def test_without_meta(net: Network) -> None:
    run = ping(net, "--output-meta=false")
    assert titles(run) == ["SKB", "CPU", "PROCESS", "TUPLE", "FUNC"]
    assert f"{net.v4(1)}:0->{net.v4(2)}:0(icmp)" in column(run, "TUPLE")


def test_without_tuple(net: Network) -> None:
    run = ping(net, "--output-tuple=false")
    assert titles(run) == [title for title in HEADER if title != "TUPLE"]
    assert "0x0800" in column(run, "PROTO")
    assert net.v4(1) not in run.stdout


def test_without_meta_and_tuple(net: Network) -> None:
    run = ping(net, "--output-meta=false", "--output-tuple=false")
    assert titles(run) == ["SKB", "CPU", "PROCESS", "FUNC"]
    assert "tp:netif_receive_skb" in column(run, "FUNC")


def test_current_time(net: Network) -> None:
    """Of one packet they rise; of two CPUs the later sight may come first."""
    before = time.monotonic_ns()
    run = ping(net, "--timestamp=current")
    after = time.monotonic_ns()
    times: dict[str, list[int]] = {}
    for packet, text in zip(column(run, "SKB"), column(run, "TIMESTAMP"), strict=True):
        times.setdefault(packet, []).append(int(text))
    for each in times.values():
        assert each == sorted(each)
        assert before < each[0] <= each[-1] < after


def test_relative_time(net: Network) -> None:
    """It begins anew with each packet, although their addresses are given again."""
    count = 20
    with tracing("--timestamp=relative", f"icmp and host {net.v4(2)}") as run:
        net.ping(net.v4(2), "-c", str(count), "-i", "0.01")
    times = [int(text) for text in column(run, "TIMESTAMP")]
    assert times.count(0) == 2 * count  # requests and replies
    assert min(times) == 0
    assert len(set(column(run, "SKB"))) < 2 * count, "no address came again: it shows nothing"


def test_absolute_time(net: Network) -> None:
    before = time.time()
    run = ping(net, "--timestamp=absolute")
    after = time.time()
    assert titles(run)[0] == "TIME"
    for text in column(run, "TIME"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", text)
        seconds = time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        assert before - 2 < seconds < after + 1


def test_filter_func_chooses_tracepoints(net: Network) -> None:
    run = ping(net, "--filter-func=netif_r.*")
    functions = set(column(run, "FUNC"))
    assert "tp:netif_receive_skb" in functions
    assert all(function.startswith("tp:netif_r") for function in functions)
    assert run.done["attached"] < 10


def test_debug_names_the_filter(net: Network) -> None:
    run = ping(net, "--debug")
    assert " DEBUG Compiled the filter" in run.stderr
