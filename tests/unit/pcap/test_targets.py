"""Targets of --output-pcap: rotated files, pipes, and errors of writing."""

from __future__ import annotations

import fcntl
import io
import os
import select
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader, RawPcapReader

from pypwru.errors import OutputClosed, OutputError, UsageError
from pypwru.files import rotation
from pypwru.files.backups import create_with_mode_of
from pypwru.log import Log
from pypwru.pcap import writer as pcap_output
from pypwru.pcap.targets import CaptureFileSink, open_target
from pypwru.pcap.writer import open_pcap
from pypwru.signals import StopRequest
from tests.support.need import need
from tests.support.pcaps import (
    ARP,
    COMMAND,
    FRAME,
    IP,
    IP6,
    IPV6,
    NEVER,
    REQUEST,
    Pair,
    Writer,
    blocks,
    capture_options,
    captured,
    captured_event,
    options,
    rotated,
    tool,
    write,
)
from tests.support.records import BLUE, configured

FORMATS = ("pcap", "pcapng")


def read_packets(path: Path) -> list[bytes]:
    """Return the packets of a file."""
    kind = RawPcapReader if path.suffix == ".pcap" else RawPcapNgReader
    with closing(kind(str(path))) as reader:
        return [octets for octets, _ in reader]


def make_pairs(count: int, size: int = 0, start: int = 0) -> list[Pair]:
    """Return packets on three devices, each with its number in its data."""
    return [
        (
            captured_event(3, number, number, ifindex=1 + number % 3),
            captured(number.to_bytes(14, "big").ljust(size, b"."), first=True, dropped=1),
        )
        for number in range(start, start + count)
    ]


def data_of(pairs: list[Pair]) -> list[bytes]:
    return [capture.data for _, capture in pairs if capture]


@pytest.mark.parametrize("suffix", FORMATS)
def test_file_is_replaced(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"x.{suffix}"
    for start in (0, 10):
        pairs = make_pairs(5, start=start)
        write(f"--output-pcap {path}", pairs)
        assert read_packets(path) == data_of(pairs)
    assert list(path.parent.iterdir()) == [path]


def test_open_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(b"precious")
    with ExitStack() as stack:
        open_pcap(capture_options(configured(f"--output-pcap {path}")), NEVER, Log(None), stack)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", FORMATS)
def test_unfinished_file_is_readable(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    pairs = make_pairs(5)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack)
        assert "Number of packets:   0\n" in tool("capinfos", path)
        writer.show(*pairs)
        assert "Number of packets:   5\n" in tool("capinfos", path)
        assert read_packets(path) == data_of(pairs)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.lists(st.integers(14, 2000), max_size=5), max_size=5),
    max_size=st.sampled_from((1, 600, 3000)),
)
def test_rotated_files_have_all_packets(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    sizes: list[list[int]],
    max_size: int,
) -> None:
    path = tmp_path_factory.mktemp("row") / f"x.{suffix}"
    batches: list[list[Pair]] = []
    for some in sizes:
        start = sum(map(len, batches))
        batches.append([make_pairs(1, size, start + place)[0] for place, size in enumerate(some)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pcap_output, "_MB", max_size)
        write(f"--output-pcap {path} --pcap-max-size 1", *batches)

    files = rotated(path)
    found = [read_packets(each) for each in files]
    assert [*chain(*found)] == [*chain(*map(data_of, batches))]
    for each, packets in zip(files, found, strict=True):
        assert len(packets) < 2 or each.stat().st_size <= max_size
        assert packets or files == [path]


def test_each_rotated_file_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pcapng"
    monkeypatch.setattr(pcap_output, "_MB", 2500)
    pairs = make_pairs(9, 300)
    write(f"--output-pcap {path} --pcap-max-size 1", pairs)
    files = rotated(path)
    assert len(files) == 3
    for each, start in zip(files, (0, 3, 6), strict=True):
        assert read_packets(each) == data_of(pairs[start : start + 3])
        report = tool("capinfos", each)
        assert "Number of interfaces in file: 3\n" in report
        section, *_, first, second, third = blocks(each)
        assert options(section)["Comment"] == COMMAND
        for block in (first, second, third):  # of this file, not of the run
            assert options(block)["Number of Received Packets"] == "2"
            assert options(block)["Number of Packets Delivered to the User"] == "1"


@pytest.mark.parametrize(("flag", "count"), [("0", 9), ("1", 1), ("2", 2), ("20", 9)])
def test_pcap_max_files_keeps_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, count: int
) -> None:
    path = tmp_path / "x.pcap"
    monkeypatch.setattr(pcap_output, "_MB", 100)
    pairs = make_pairs(9, 60)
    write(f"--output-pcap {path} --pcap-max-size 1 --pcap-max-files {flag}", pairs)
    files = rotated(path)
    assert [read_packets(each) for each in files] == [
        [octets] for octets in data_of(pairs)[-count:]
    ]


def test_without_max_size_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    write(f"--output-pcap {path}", make_pairs(100, 60000))
    assert rotated(path) == [path]


class LogLines:
    """A log and its lines."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.log = Log(self.stream)

    @property
    def lines(self) -> list[str]:
        """Lines without their times."""
        return [line.split(" ", 2)[2] for line in self.stream.getvalue().splitlines()]


FULL_WARNING = (
    "WARN Continuing without --output-pcap why=\"can't write {}: No space left on device: "
    'free some space"'
)


def full_disk(folder: Path) -> Path:
    link = folder / "full.pcapng"
    link.symlink_to("/dev/full")
    return link


def test_full_disk_is_a_warning_beside_text(tmp_path: Path) -> None:
    log, path = LogLines(), full_disk(tmp_path)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack, log.log)
        assert log.lines == [FULL_WARNING.format(path)]
        writer.show(*make_pairs(5))  # their captures are still popped
        writer.output.close(writer.lost)
    assert len(log.lines) == 1
    assert writer.output.summarize() == {"pcap_packets": 0}


def test_full_disk_is_an_error_without_text(tmp_path: Path) -> None:
    with (
        ExitStack() as stack,
        pytest.raises(OutputError, match="No space left on device: free some"),
    ):
        Writer(f"--output-pcap {full_disk(tmp_path)} --output-text=false", stack)


def test_file_size_limit_leaves_valid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit, RLIMIT_FSIZE, the last write is partial."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.unit.pcap.test_targets import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "log = LogLines()\n"
        "with ExitStack() as stack:\n"
        "    writer = Writer('--output-pcap ' + sys.argv[1], stack, log.log)\n"
        "    for start in range(0, 20, 5):\n"
        "        writer.show(*make_pairs(5, 200, start))\n"
        "    writer.output.close(writer.lost)\n"
        "print('\\n'.join(log.lines))"
    )
    path = tmp_path / "x.pcapng"
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith(
        f"WARN Continuing without --output-pcap why=\"can't write {path}: File too"
    )
    assert read_packets(path) == data_of(make_pairs(10, 200))
    tool("capinfos", path)


@pytest.mark.parametrize("text", ["", "--output-text=false"])
def test_unopenable_path_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x.pcapng"
    config = configured(
        f"--output-pcap {path} --pcap-when drop --pcap-max-size 1 --pcap-max-files 2 {text}"
    )
    log = LogLines()
    message = f"can't open {path}: Not a directory: choose another --output-pcap"
    with ExitStack() as stack, pytest.raises(OutputError) as raised:
        open_pcap(capture_options(config), NEVER, log.log, stack)
    assert str(raised.value) == message and log.lines == []


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("mask", [0o022, 0o077, 0])
def test_file_mode_is_0600(tmp_path: Path, suffix: str, mask: int) -> None:
    before = os.umask(mask)
    try:
        write(f"--output-pcap {tmp_path}/x.{suffix} --pcap-max-size 1", make_pairs(3))
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


def test_file_is_locked_against_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the new one after a rotation."""
    monkeypatch.setattr(pcap_output, "_MB", 500)
    path, link = tmp_path / "x.pcapng", tmp_path / "link.pcapng"
    link.symlink_to(path)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path} --pcap-max-size 1", stack)
        for pairs in (make_pairs(1), make_pairs(9, start=1)):
            writer.show(*pairs)
            before = path.read_bytes()
            for other in (path, link):
                with (
                    ExitStack() as second,
                    pytest.raises(OutputError, match="another pypwru writes to it"),
                ):
                    Writer(f"--output-pcap {other}", second)
            assert path.read_bytes() == before
        writer.output.close(writer.lost)
    assert len(rotated(path)) > 2, "it was rotated"
    write(f"--output-pcap {link}", make_pairs(2))
    assert read_packets(path) == data_of(make_pairs(2))


def test_locked_new_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run locked it between creation and lock. The sink closes its descriptor once."""
    path = tmp_path / "x.pcapng"
    others: list[int] = []

    def create(path: Path, model: os.stat_result) -> int:
        created = create_with_mode_of(path, model)
        others.append(os.open(path, os.O_WRONLY | os.O_APPEND))
        fcntl.flock(others[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(others[0], b"other")
        return created

    monkeypatch.setattr(rotation, "create_with_mode_of", create)
    with closing(open_target(path, 0, NEVER, Log(None))) as target:
        assert isinstance(target, CaptureFileSink)
        target.write_events([b"own"])
        with pytest.raises(OutputError, match="another pypwru writes to it"):
            target.rotate()
        descriptor = target.fileno()
        assert os.path.samestat(os.fstat(descriptor), path.stat())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    os.close(others[0])
    assert sorted(each.read_bytes() for each in tmp_path.iterdir()) == [b"other", b"own"]


def test_named_pipe_waits_for_reader(tmp_path: Path) -> None:
    path, log = tmp_path / "pipe.pcapng", LogLines()
    os.mkfifo(path)
    readers: list[int] = []

    def read() -> None:
        while not log.lines:
            pass
        readers.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))

    reader = threading.Thread(target=read)
    reader.start()
    with ExitStack() as stack:
        Writer(f"--output-pcap {path}", stack, log.log).output.close(0)
    reader.join()
    assert log.lines == [f"INFO Waiting for a reader file={path}"]
    assert os.read(readers[0], 4) == b"\n\r\r\n"
    os.close(readers[0])


def test_stop_request_ends_wait_for_reader(tmp_path: Path) -> None:
    path, stop = tmp_path / "pipe.pcapng", pending_stop()
    os.mkfifo(path)
    with ExitStack() as stack, pytest.raises(OutputClosed):
        Writer(f"--output-pcap {path}", stack, stop=stop)
    os.close(stop.fd)


@pytest.mark.parametrize("text", ["", "--output-text=false"])
def test_terminal_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    reading, writing = os.openpty()
    kept = os.dup(1)
    try:
        os.dup2(writing, 1)
        with ExitStack() as stack, pytest.raises(UsageError, match="terminal: pipe it"):
            Writer(f"--output-pcap - {text}", stack)
    finally:
        os.dup2(kept, 1)
        for descriptor in (kept, reading, writing):
            os.close(descriptor)
    monkeypatch.setattr(sys, "stdout", None)
    with ExitStack() as stack, pytest.raises(OutputError, match="standard output is closed"):
        Writer("--output-pcap - --output-text=false", stack)


def test_standard_output_is_flushed_pcapng(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "got.pcapng"
    pairs = make_pairs(6)
    with ExitStack() as stack:
        writer = Writer("--output-pcap -", stack)
        got = b""
        for start in (0, 3):
            writer.show(*pairs[start : start + 3])
            got += capfdbinary.readouterr().out
            path.write_bytes(got)
            assert read_packets(path) == data_of(pairs[: start + 3])
        writer.output.close(writer.lost)
    path.write_bytes(got + capfdbinary.readouterr().out)
    assert "Number of stat entries = 1" in tool("capinfos", path)


def test_tcpdump_reads_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """It would stop at a second link type."""
    need(shutil.which("tcpdump"), "tcpdump")
    with ExitStack() as stack:
        writer = Writer("--output-pcap -", stack)
        writer.show(
            (captured_event(2, 1, protocol=0, ifindex=0), captured(IP, layer=3, first=True)),
            (captured_event(3, 2, netns=BLUE), captured(FRAME, tag=0x81000005, first=True)),
            (captured_event(8, 3, protocol=ARP), captured(REQUEST, layer=3, first=True)),
            (captured_event(6, 4, protocol=IPV6), captured(IP6, layer=3, first=True)),
        )
        writer.output.close(writer.lost)
    command = ["tcpdump", "-enr", "-"]
    written = capfdbinary.readouterr().out
    done = subprocess.run(command, input=written, capture_output=True, check=True)
    kinds = [
        line.partition("ethertype ")[2].split()[0] for line in done.stdout.decode().splitlines()
    ]
    assert kinds == ["IPv4", "802.1Q", "ARP", "IPv6"]


def fifo(folder: Path, suffix: str = "pcapng") -> tuple[Path, int]:
    """Make a named pipe, and return it and its reading end."""
    path = folder / f"pipe.{suffix}"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("suffix", FORMATS)
def test_named_pipe_is_not_rotated(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pcap_output, "_MB", 500)
    path, reading = fifo(tmp_path, suffix)
    pairs = make_pairs(9)
    write(f"--output-pcap {path} --pcap-max-size 1", pairs)
    copy = tmp_path / f"copy.{suffix}"
    copy.write_bytes(os.read(reading, 1 << 16))
    os.close(reading)
    assert read_packets(copy) == data_of(pairs)


def test_closed_reader_ends_the_run(tmp_path: Path) -> None:
    path, reading = fifo(tmp_path)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack)
        writer.show(*make_pairs(3))
        os.close(reading)
        with pytest.raises(OutputClosed) as closed:
            writer.show(*make_pairs(3))
        writer.output.close(writer.lost)  # and that is no error
    assert closed.value.events_written == 0
    assert writer.output.summarize() == {"pcap_packets": 3}


def pending_stop() -> StopRequest:
    """Return a stop request that is pending."""
    reading, writing = os.pipe()
    os.write(writing, b"!")
    os.close(writing)
    return StopRequest(reading)


def test_stop_request_waits_for_slow_reader(tmp_path: Path) -> None:
    """So the last block is whole."""
    path, reading = fifo(tmp_path)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    os.set_blocking(reading, True)
    copy = tmp_path / "copy.pcapng"

    def drain() -> None:
        with open(reading, "rb", buffering=0) as source, copy.open("wb") as target:
            while octets := source.read(1 << 16):
                target.write(octets)

    reader = threading.Thread(target=drain)
    pairs = make_pairs(50, 5000)
    stop = pending_stop()
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack, stop=stop)
        reader.start()
        writer.show(*pairs)
        writer.output.close(writer.lost)
    reader.join()
    os.close(stop.fd)
    assert read_packets(copy) == data_of(pairs)
    assert "Number of stat entries = 1" in tool("capinfos", copy)


def test_stop_request_leaves_blocked_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pypwru.files.sink._TIMEOUT", 0.01)
    path, reading = fifo(tmp_path)
    stop = pending_stop()
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack, stop=stop)
        with pytest.raises(OutputClosed):
            writer.show(*make_pairs(50, 5000))
        writer.output.close(writer.lost)
    for descriptor in (stop.fd, reading):
        os.close(descriptor)
