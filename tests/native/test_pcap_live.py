"""--output-pcap - into other programs while tracing goes on, and the file of a killed run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.native.rule_namespaces import until
from tests.native.tracing import TIMEOUT, Network, Run, network, tracing
from tests.support.captures import SCRIPT, check, octets, packets
from tests.support.need import need

pytestmark = pytest.mark.native

PORT, OPEN = 4910, 4911
RULES = f"""
table inet cut {{
    chain input {{
        type filter hook input priority 0
        udp dport {PORT} drop
    }}
}}
"""
STREAM = ("--output-pcap=-", "--output-text=false")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    need(shutil.which("nft"), "nft (package nftables)")
    with network() as made:
        command = ["ip", "netns", "exec", made.left, "nft", "-f", "-"]
        subprocess.run(command, input=RULES, text=True, check=True)
        yield made


def send(net: Network, port: int, count: int = 1) -> None:
    script = (
        "import contextlib, socket\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:\n"
        f"    for _ in range({count}):\n"
        "        with contextlib.suppress(ConnectionRefusedError):\n"
        f"            sender.sendto(b'live', ('127.0.0.1', {port}))\n"
    )
    done = net.run("python3", "-c", script)
    assert done.returncode == 0, done.stderr


class Reader:
    """A program that reads pypwru's standard output."""

    def __init__(self, folder: Path, *words: str) -> None:
        need(shutil.which(words[0]), words[0])
        self._out, self._err = folder / "reader.out", folder / "reader.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, stderr=err)

    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    def errors(self) -> str:
        return self._err.read_text()


@contextlib.contextmanager
def pipe_to(
    net: Network, folder: Path, reader: Sequence[str], *words: str
) -> Iterator[tuple[Run, Reader]]:
    """Run ``pypwru --output-pcap - WORDS | READER``, which ends by itself when the reader ends."""
    program = Reader(folder, *reader)
    pipe = program.process.stdin
    assert pipe
    try:
        with tracing(*STREAM, "--filter-netns", net.left, *words, stdout=pipe) as run:
            pipe.close()
            yield run, program
        assert program.process.wait(TIMEOUT) == 0, program.errors()
    finally:
        program.process.kill()
        program.process.wait()


def test_tshark_shows_drop_while_tracing(net: Network, tmp_path: Path) -> None:
    keys = ("func", "type", "drop_reason")
    field_flags = [word for key in keys for word in ("-e", f"pypwru.{key}")]
    shows = ["-Y", 'pypwru.drop_reason contains "NETFILTER"', "-T", "fields", *field_flags]
    tshark = ["tshark", "-l", "-r", "-", "-X", f"lua_script:{SCRIPT}", *shows]
    words = ("--pcap-when=drop", f"udp dst port {PORT} or udp dst port {OPEN}")
    with pipe_to(net, tmp_path, tshark, *words) as (run, reader):
        for count in (1, 2):
            send(net, OPEN)  # no socket listens there: another reason
            send(net, PORT)
            until(lambda: len(reader.lines()) >= count)  # noqa: B023
            assert len(reader.lines()) == count
            assert run.process.poll() is None
    assert run.status == 0
    assert reader.lines() == ["tp:kfree_skb\tdrop\tSKB_DROP_REASON_NETFILTER_DROP"] * 2


def test_tcpdump_reads_stream(net: Network, tmp_path: Path) -> None:
    words = ("--pcap-when=tp:net_dev_queue", f"udp dst port {OPEN}")
    with pipe_to(net, tmp_path, ["tcpdump", "-l", "-n", "-r", "-"], *words) as (run, reader):
        for count in (1, 2):
            send(net, OPEN)
            until(lambda: len(reader.lines()) >= count)  # noqa: B023
            assert run.process.poll() is None
    assert run.status == 0
    assert len(reader.lines()) == 2
    assert all(f"> 127.0.0.1.{OPEN}: UDP, length 4" in line for line in reader.lines())


def test_closed_pipe_ends_run_quietly(net: Network) -> None:
    reading_end, writing_end = os.pipe()
    with (
        os.fdopen(writing_end, "wb") as pipe,
        tracing(
            *STREAM, "--filter-netns", net.left, f"udp dst port {OPEN}", stdout=pipe, stop=None
        ) as run,
    ):
        pipe.close()
        os.close(reading_end)
        send(net, OPEN)
    assert run.status == 0
    assert "ERROR" not in run.stderr
    assert "WARN" not in run.stderr


def test_killed_run_leaves_flushed_packets(net: Network, tmp_path: Path) -> None:
    file, before = tmp_path / "killed.pcapng", tmp_path / "flushed.pcapng"
    words = ("--output-pcap", str(file), "--pcap-when=tp:net_dev_queue")
    pcap_filter = f"udp dst port {OPEN}"
    with tracing(*words, "--filter-netns", net.left, pcap_filter, stop=signal.SIGKILL) as run:
        send(net, OPEN, 10)
        until(lambda: _packets(file, before) >= 10)
        send(net, OPEN, 2000)
        until(lambda: file.stat().st_size > 2 * before.stat().st_size)
    assert run.status == -signal.SIGKILL
    check(before)
    assert len(packets(before)) == 10
    # The kill can have cut a write; what is before it is whole.
    whole = octets(file)
    assert whole[:10] == octets(before)
    assert len(whole) >= 20


def _packets(file: Path, copy: Path) -> int:
    """Copy ``file`` to ``copy``, and return the number of packets in the copy."""
    shutil.copy(file, copy)
    return len(octets(copy))
