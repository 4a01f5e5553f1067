"""Where a pcap goes: rows of files, pipes, and what becomes of a run that can't write."""

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
    captured,
    captured_event,
    options,
    rotated,
    tool,
    write,
)
from tests.support.records import BLUE, configured

FORMATS = ("pcap", "pcapng")


def seen(path: Path) -> list[bytes]:
    """The packets of a file."""
    kind = RawPcapReader if path.suffix == ".pcap" else RawPcapNgReader
    with closing(kind(str(path))) as reader:
        return [octets for octets, _ in reader]


def numbered(count: int, size: int = 0, start: int = 0) -> list[Pair]:
    """Packets on three devices, each with its number in it."""
    return [
        (
            captured_event(3, number, number, ifindex=1 + number % 3),
            captured(number.to_bytes(14, "big").ljust(size, b"."), first=True, dropped=1),
        )
        for number in range(start, start + count)
    ]


def sent(pairs: list[Pair]) -> list[bytes]:
    return [told.data for _, told in pairs if told]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_takes_the_place_of_an_older_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"x.{suffix}"
    for start in (0, 10):
        pairs = numbered(5, start=start)
        write(f"--output-pcap {path}", pairs)
        assert seen(path) == sent(pairs)
    assert list(path.parent.iterdir()) == [path]


def test_a_run_that_never_begins_has_emptied_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(b"precious")
    with ExitStack() as stack:
        open_pcap(configured(f"--output-pcap {path}"), NEVER, Log(None), stack, COMMAND)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_was_flushed_is_there_without_an_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    pairs = numbered(5)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack)
        assert "Number of packets:   0\n" in tool("capinfos", path)
        writer.show(*pairs)
        assert "Number of packets:   5\n" in tool("capinfos", path)
        assert seen(path) == sent(pairs)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.lists(st.integers(14, 2000), max_size=5), max_size=5),
    max_size=st.sampled_from((1, 600, 3000)),
)
def test_a_row_of_files_has_every_packet(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    sizes: list[list[int]],
    max_size: int,
) -> None:
    path = tmp_path_factory.mktemp("row") / f"x.{suffix}"
    batches: list[list[Pair]] = []
    for some in sizes:
        start = sum(map(len, batches))
        batches.append([numbered(1, size, start + place)[0] for place, size in enumerate(some)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pcap_output, "_MB", max_size)
        write(f"--output-pcap {path} --pcap-max-size 1", *batches)

    files = rotated(path)
    found = [seen(each) for each in files]
    assert [*chain(*found)] == [*chain(*map(sent, batches))]
    for each, packets in zip(files, found, strict=True):
        assert len(packets) < 2 or each.stat().st_size <= max_size
        assert packets or files == [path]


def test_each_file_of_a_row_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pcapng"
    monkeypatch.setattr(pcap_output, "_MB", 2500)
    pairs = numbered(9, 300)
    write(f"--output-pcap {path} --pcap-max-size 1", pairs)
    files = rotated(path)
    assert len(files) == 3
    for each, start in zip(files, (0, 3, 6), strict=True):
        assert seen(each) == sent(pairs[start : start + 3])
        report = tool("capinfos", each)
        assert "Number of interfaces in file: 3\n" in report
        section, *_, first, second, third = blocks(each)
        assert options(section)["Comment"] == COMMAND
        for block in (first, second, third):  # of this file, not of the run
            assert options(block)["Number of Received Packets"] == "2"
            assert options(block)["Number of Packets Delivered to the User"] == "1"


@pytest.mark.parametrize(("flag", "kept"), [("0", 9), ("1", 1), ("2", 2), ("20", 9)])
def test_so_many_files_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, kept: int
) -> None:
    path = tmp_path / "x.pcap"
    monkeypatch.setattr(pcap_output, "_MB", 100)
    pairs = numbered(9, 60)
    write(f"--output-pcap {path} --pcap-max-size 1 --pcap-max-files {flag}", pairs)
    files = rotated(path)
    assert [seen(each) for each in files] == [[octets] for octets in sent(pairs)[-kept:]]


def test_a_row_without_a_size_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    write(f"--output-pcap {path}", numbered(100, 60000))
    assert rotated(path) == [path]


class Told:
    """A log, and what it was told."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.log = Log(self.stream)

    @property
    def lines(self) -> list[str]:
        """Without their times."""
        return [line.split(" ", 2)[2] for line in self.stream.getvalue().splitlines()]


FULL = (
    "WARN Continuing without --output-pcap why=\"can't write {}: No space left on device: "
    'free some space"'
)


def full(folder: Path) -> Path:
    link = folder / "full.pcapng"
    link.symlink_to("/dev/full")
    return link


def test_a_full_disk_is_said_at_once_and_text_goes_on(tmp_path: Path) -> None:
    told, path = Told(), full(tmp_path)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack, told.log)
        assert told.lines == [FULL.format(path)]
        writer.show(*numbered(5))  # whose bytes are still taken
        writer.output.close(writer.lost)
    assert len(told.lines) == 1
    assert writer.output.summarize() == {"pcap_packets": 0}


def test_a_full_disk_is_an_error_where_there_is_no_text(tmp_path: Path) -> None:
    with (
        ExitStack() as stack,
        pytest.raises(OutputError, match="No space left on device: free some"),
    ):
        Writer(f"--output-pcap {full(tmp_path)} --output-text=false", stack)


def test_what_does_not_fit_leaves_a_file_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system of some size, as RLIMIT_FSIZE makes it: the last write is half done."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.unit.pcap.test_targets import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "told = Told()\n"
        "with ExitStack() as stack:\n"
        "    writer = Writer('--output-pcap ' + sys.argv[1], stack, told.log)\n"
        "    for start in range(0, 20, 5):\n"
        "        writer.show(*numbered(5, 200, start))\n"
        "    writer.output.close(writer.lost)\n"
        "print('\\n'.join(told.lines))"
    )
    path = tmp_path / "x.pcapng"
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith(
        f"WARN Continuing without --output-pcap why=\"can't write {path}: File too"
    )
    assert seen(path) == sent(numbered(10, 200))
    tool("capinfos", path)


@pytest.mark.parametrize("text", ["", "--output-text=false"])
def test_a_path_that_cant_be_opened(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x.pcapng"
    config = configured(
        f"--output-pcap {path} --pcap-when drop --pcap-max-size 1 --pcap-max-files 2 {text}"
    )
    told = Told()
    message = f"can't open {path}: Not a directory: choose another --output-pcap"
    with ExitStack() as stack, pytest.raises(OutputError) as raised:
        open_pcap(config, NEVER, told.log, stack, COMMAND)
    assert str(raised.value) == message and told.lines == []


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("mask", [0o022, 0o077, 0])
def test_packets_are_for_nobody_else(tmp_path: Path, suffix: str, mask: int) -> None:
    before = os.umask(mask)
    try:
        write(f"--output-pcap {tmp_path}/x.{suffix} --pcap-max-size 1", numbered(3))
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]


def test_a_file_is_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that the other run has begun since."""
    monkeypatch.setattr(pcap_output, "_MB", 500)
    path, link = tmp_path / "x.pcapng", tmp_path / "link.pcapng"
    link.symlink_to(path)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path} --pcap-max-size 1", stack)
        for pairs in (numbered(1), numbered(9, start=1)):
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
    assert len(rotated(path)) > 2, "it was begun anew"
    write(f"--output-pcap {link}", numbered(2))
    assert seen(path) == sent(numbered(2))


def test_a_new_file_that_another_run_has_locked_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came between the creation and the lock. The end closes what the sink has, once."""
    path = tmp_path / "x.pcapng"
    others: list[int] = []

    def create(path: Path, model: os.stat_result) -> int:
        created = create_with_mode_of(path, model)
        others.append(os.open(path, os.O_WRONLY | os.O_APPEND))
        fcntl.flock(others[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(others[0], b"other")
        return created

    monkeypatch.setattr(rotation, "create_with_mode_of", create)
    with closing(open_target(configured(f"--output-pcap {path}"), NEVER, Log(None))) as target:
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


def test_a_named_pipe_waits_for_its_reader(tmp_path: Path) -> None:
    path, told = tmp_path / "pipe.pcapng", Told()
    os.mkfifo(path)
    readers: list[int] = []

    def read() -> None:
        while not told.lines:
            pass
        readers.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))

    reader = threading.Thread(target=read)
    reader.start()
    with ExitStack() as stack:
        Writer(f"--output-pcap {path}", stack, told.log).output.close(0)
    reader.join()
    assert told.lines == [f"INFO Waiting for a reader file={path}"]
    assert os.read(readers[0], 4) == b"\n\r\r\n"
    os.close(readers[0])


def test_a_named_pipe_waits_no_longer_than_the_user(tmp_path: Path) -> None:
    path, stop = tmp_path / "pipe.pcapng", stopped()
    os.mkfifo(path)
    with ExitStack() as stack, pytest.raises(OutputClosed):
        Writer(f"--output-pcap {path}", stack, stop=stop)
    os.close(stop.fd)


@pytest.mark.parametrize("text", ["", "--output-text=false"])
def test_a_terminal_gets_no_pcap(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
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


def test_standard_output_is_pcapng_at_once(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "got.pcapng"
    pairs = numbered(6)
    with ExitStack() as stack:
        writer = Writer("--output-pcap -", stack)
        got = b""
        for start in (0, 3):
            writer.show(*pairs[start : start + 3])
            got += capfdbinary.readouterr().out
            path.write_bytes(got)
            assert seen(path) == sent(pairs[: start + 3])
        writer.output.close(writer.lost)
    path.write_bytes(got + capfdbinary.readouterr().out)
    assert "Number of stat entries = 1" in tool("capinfos", path)


def test_tcpdump_reads_what_is_piped(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Which stops at a second link type."""
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
    """A named pipe and its reading end."""
    path = folder / f"pipe.{suffix}"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_named_pipe_is_not_rotated(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pcap_output, "_MB", 500)
    path, reading = fifo(tmp_path, suffix)
    pairs = numbered(9)
    write(f"--output-pcap {path} --pcap-max-size 1", pairs)
    copy = tmp_path / f"copy.{suffix}"
    copy.write_bytes(os.read(reading, 1 << 16))
    os.close(reading)
    assert seen(copy) == sent(pairs)


def test_a_reader_that_went_away_ends_the_run(tmp_path: Path) -> None:
    path, reading = fifo(tmp_path)
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack)
        writer.show(*numbered(3))
        os.close(reading)
        with pytest.raises(OutputClosed) as closed:
            writer.show(*numbered(3))
        writer.output.close(writer.lost)  # and that is no error
    assert closed.value.events_written == 0
    assert writer.output.summarize() == {"pcap_packets": 3}


def stopped() -> StopRequest:
    """The user wants the end."""
    waiting, wanted = os.pipe()
    os.write(wanted, b"!")
    os.close(wanted)
    return StopRequest(waiting)


def test_who_wants_the_end_waits_for_a_reader_that_reads(tmp_path: Path) -> None:
    """And so the last block is whole."""
    path, reading = fifo(tmp_path)
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    os.set_blocking(reading, True)
    copy = tmp_path / "copy.pcapng"

    def drain() -> None:
        with open(reading, "rb", buffering=0) as source, copy.open("wb") as target:
            while octets := source.read(1 << 16):
                target.write(octets)

    reader = threading.Thread(target=drain)
    pairs = numbered(50, 5000)
    stop = stopped()
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack, stop=stop)
        reader.start()
        writer.show(*pairs)
        writer.output.close(writer.lost)
    reader.join()
    os.close(stop.fd)
    assert seen(copy) == sent(pairs)
    assert "Number of stat entries = 1" in tool("capinfos", copy)


def test_but_not_for_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypwru.files.sink._TIMEOUT", 0.01)
    path, reading = fifo(tmp_path)
    stop = stopped()
    with ExitStack() as stack:
        writer = Writer(f"--output-pcap {path}", stack, stop=stop)
        with pytest.raises(OutputClosed):
            writer.show(*numbered(50, 5000))
        writer.output.close(writer.lost)
    for descriptor in (stop.fd, reading):
        os.close(descriptor)
