"""Outputs that lines are written to, and their errors."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pypwru.errors import OutputClosed, OutputError
from pypwru.files.sink import Sink, open_sink
from pypwru.signals import StopRequest


def test_file_is_appended_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "trace"
    before = os.umask(0)
    try:
        for line in (b"one\n", b"two\n"):
            with open_sink(path) as sink:
                sink.write(line)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"one\ntwo\n"
    modes = [each.stat().st_mode & 0o777 for each in (path, path.parent, path.parent.parent)]
    assert modes == [0o644, 0o755, 0o755]


@pytest.mark.parametrize("tail", ["", "file/below"])
def test_unwritable_path_is_named(tmp_path: Path, tail: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / tail
    with pytest.raises(OutputError) as caught:
        open_sink(path)
    message = str(caught.value)
    assert str(path) in message
    assert "Is a directory" in message if not tail else "Not a directory" in message
    assert "\n" not in message


def test_full_disk_is_named() -> None:
    with (
        open_sink(Path("/dev/full")) as sink,
        pytest.raises(OutputError, match="/dev/full: No space left on device: free some space"),
    ):
        sink.write(b"line\n")


@pytest.mark.parametrize("limit", [0, 1, 50, 99, 100, 101, 250])
@pytest.mark.parametrize("flags", ["", "--output-file-max-backups 3"])
def test_full_disk_has_whole_lines_only(tmp_path: Path, limit: int, flags: str) -> None:
    """RLIMIT_FSIZE stands in for a full disk: the last write is partial."""
    path = tmp_path / "trace"
    script = (
        "import resource, sys\n"
        "from contextlib import ExitStack\n"
        "from pypwru.errors import OutputError\n"
        "from pypwru.log import Log\n"
        "from pypwru.cli.outputs import open_event_sink\n"
        "from pypwru.signals import StopRequest\n"
        "from tests.support.records import configured\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
        "events = [b'x' * 49 + b'\\n'] * 5\n"
        "with ExitStack() as stack:\n"
        "    config = configured(sys.argv[2])\n"
        "    sink = open_event_sink(config, StopRequest(-1), Log(None), stack)\n"
        "    try:\n"
        "        sink.write_events(events[:1])\n"
        "        sink.write_events(events[1:])\n"
        "    except OutputError as error:\n"
        "        print(error.events_written, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(limit), f"--output-file {path} {flags}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    written = path.read_bytes()
    assert len(written) == limit - limit % 50 and written.endswith(b"\n" * bool(written))
    if limit < 250:
        events, _, words = done.stdout.partition(" ")
        assert int(events) == max(limit // 50 - 1, 0)
        assert words == f"can't write {path}: File too large: choose another --output-file\n"
    else:
        assert done.stdout == ""


def test_shared_file_has_whole_lines(tmp_path: Path) -> None:
    """``>all 2>&1``: lines of others after a partial line stay."""
    descriptor = os.open(tmp_path / "all", os.O_WRONLY | os.O_CREAT)
    sink = Sink(descriptor, "all", owned=True)
    sink.write(b"one\n")
    os.write(descriptor, b"log\n")
    sink.write(b"two\nth")
    error = sink._write_error(OSError(28, "No space left on device"), [b"two\n", b"three\n"], 6)
    assert error.events_written == 1
    os.write(descriptor, b"the end\n")
    sink.close()
    assert (tmp_path / "all").read_text() == "one\nlog\ntwo\nthe end\n"


def test_removed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "trace"
    sink = open_sink(path)
    sink.write(b"line\n")
    shutil.rmtree(path.parent)
    with pytest.raises(OutputError, match=f"{path} was removed while it was written"):
        sink.close()
    moved = open_sink(path)
    path.rename(tmp_path / "moved")
    moved.close()


def test_closed_pipe_is_noticed_without_a_write() -> None:
    read, write = os.pipe()
    sink = Sink(write, "pipe", owned=True)
    sink.require_reader()
    os.close(read)
    with pytest.raises(OutputClosed):
        sink.require_reader()
    os.close(write)
    for path in (os.devnull, "/dev/full", "/proc/self/comm"):
        with open_sink(Path(path)) as other:
            other.require_reader()


def test_write_to_closed_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(OutputClosed):
        Sink(write, "pipe", owned=True).write(b"line\n")
    os.close(write)


def test_non_blocking_pipe_gets_all() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    content = os.urandom(1 << 20)
    got = bytearray()

    def drain() -> None:
        while part := os.read(read, 1 << 16):
            got.extend(part)

    reader = threading.Thread(target=drain)
    reader.start()
    with Sink(write, "pipe", owned=True) as sink:
        sink.write(content)
    reader.join()
    os.close(read)
    assert got == content


def test_stdout_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    with open_sink(None) as sink:
        sink.write(b"one\n")
    os.write(1, b"two\n")
    assert capfd.readouterr().out == "one\ntwo\n"


def test_closed_stdout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="standard output is closed"):
        open_sink(None)


@contextmanager
def pending_stop() -> Iterator[StopRequest]:
    """Yield a stop request that is pending."""
    reading, writing = os.pipe()
    os.write(writing, b"!")
    yield StopRequest(reading)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("excess", "events", "byte_excess"),
    [(0, 1, 0), (1, 0, 0), (-1, 1, -1), (-3, 1, -3), (-4, 2, 0)],
)
def test_stop_without_reader_counts_events(
    excess: int, events: int, byte_excess: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe holds one page, and the stop request is pending before a read. Only an event larger
    than the page is cut.
    """
    monkeypatch.setattr("pypwru.files.sink._TIMEOUT", 0)
    reading, writing = os.pipe()
    page = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    with (
        pending_stop() as stop,
        Sink(writing, "pipe", owned=True, stop=stop) as sink,
        pytest.raises(OutputClosed) as closed,
    ):
        sink.write_events([b"1" * (page + excess), b"2\n3\n", b"4\n"])
    assert closed.value.events_written == events
    assert len(os.read(reading, 2 * page)) == page + byte_excess
    os.close(reading)


def test_slow_reader_gets_all_at_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads a page only when the pipe is full, so the first write never has room."""
    monkeypatch.setattr("pypwru.files.sink._TIMEOUT", 60)
    reading, writing = os.pipe()
    page = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    events = [b"%d\n" % number * 50 for number in range(1000)]
    got = bytearray()

    def read() -> None:
        while part := os.read(reading, page):
            got.extend(part)

    reader = threading.Thread(target=read)
    with pending_stop() as stop, Sink(writing, "pipe", owned=True, stop=stop) as sink:
        reader.start()
        sink.write_events(events)
    reader.join()
    assert got == b"".join(events)
    os.close(reading)


def test_stop_cuts_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write ends at the end of an event, with any room in the pipe."""
    monkeypatch.setattr("pypwru.files.sink._TIMEOUT", 0)
    events = [b"x" * (number * 37 % 500) + b"\n" for number in range(2000)]
    for pages in (1, 2, 16):
        reading, writing = os.pipe()
        size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, pages * select.PIPE_BUF)
        with (
            pending_stop() as stop,
            Sink(writing, "pipe", owned=True, stop=stop) as sink,
            pytest.raises(OutputClosed) as closed,
        ):
            sink.write_events(events)
        assert os.read(reading, size) == b"".join(events[: closed.value.events_written])
        assert closed.value.events_written > 5
        os.close(reading)


def test_hung_up_terminal_is_closed() -> None:
    ours, terminal = os.openpty()
    os.close(ours)
    with Sink(terminal, "terminal", owned=True) as sink, pytest.raises(OutputClosed):
        sink.write(b"line\n")


def test_events_are_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    os_write = os.write

    def write(descriptor: int, content: bytes) -> int:
        written.append(bytes(content))
        return os_write(descriptor, content)

    with open_sink(tmp_path / "trace") as sink:
        monkeypatch.setattr(os, "write", write)
        sink.write_events([b"one\n", b"two\nof two\n"])
        sink.write_events([])
    assert written == [b"one\ntwo\nof two\n"]
