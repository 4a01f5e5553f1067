"""Rotated files, on a real file system, with a fake clock and small sizes."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.cli.outputs import open_event_sink
from pypwru.errors import OutputError
from pypwru.files import rotation
from pypwru.files.backups import (
    Rotation,
    backup_name,
    compress,
    expired_backups,
    find_backups,
    rotation_of,
)
from pypwru.files.rotation import RotatingSink
from pypwru.files.sink import RotationLimits, Sink, open_appending
from pypwru.log import Log
from pypwru.signals import StopRequest
from tests.support.records import configured

NOON = int(datetime(2026, 6, 15, 12).timestamp()) * 1000
DAY = 24 * 60 * 60 * 1000
NEVER = StopRequest(-1)
QUIET = Log(None)


def open_rotating(
    path: Path,
    max_size: int = 10,
    max_backups: int | None = None,
    max_age: int = 0,
    compress: bool = False,
    log: Log = QUIET,
    now: Callable[[], int] = lambda: NOON,
) -> RotatingSink:
    settings = Rotation(max_size, max_backups, max_age, compress)
    return RotatingSink(open_appending(path), path, settings, log, now)


def contents(folder: Path) -> dict[str, bytes]:
    """Return contents by file name, of compressed files decompressed."""
    found = {
        path.name: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in folder.iterdir()
    }
    return dict(sorted(found.items()))


class TickingClock:
    """A clock that advances by a millisecond each time it is read."""

    def __init__(self, at: int = NOON) -> None:
        self.at = at

    def __call__(self) -> int:
        self.at += 1
        return self.at


class Lumberjack:
    """A model of ``trace.log`` by lumberjack's documentation.

    It differs in one respect: an event larger than a file is written, not refused.
    """

    def __init__(self, rotation: Rotation, clock: TickingClock) -> None:
        self.rotation = rotation
        self.clock = clock
        self.current: list[bytes] | None = None
        self.old: dict[int, list[bytes]] = {}
        self.opened = False

    def open(self) -> None:
        self.current = self.current or []
        self.opened = False

    def write(self, event: bytes) -> None:
        assert self.current is not None
        if not self.opened:
            self.opened = True
            self.prune(self.clock())
        if self.current and len(b"".join(self.current)) + len(event) > self.rotation.max_size:
            now = self.clock()
            self.old[now] = self.current
            self.current = []
            self.prune(now)
        self.current.append(event)

    def prune(self, now: int) -> None:
        """Retain the latest, up to MaxBackups; remove files older than MaxAge in any case."""
        if self.rotation.max_backups is not None:
            while len(self.old) > self.rotation.max_backups:
                del self.old[min(self.old)]
        if self.rotation.max_age:
            for stamp in [each for each in self.old if now - each > self.rotation.max_age * DAY]:
                del self.old[stamp]

    def files(self) -> dict[str, bytes]:
        names = {} if self.current is None else {"trace.log": b"".join(self.current)}
        suffix = ".gz" if self.rotation.compress else ""
        for stamp, events in self.old.items():
            local = datetime.fromtimestamp(stamp / 1000).strftime("%Y-%m-%dT%H-%M-%S")
            names[f"trace-{local}.{stamp % 1000:03}.log{suffix}"] = b"".join(events)
        return dict(sorted(names.items()))


# Batches (the sizes of their events), milliseconds that pass, or None for a new run.
ACTIONS = st.lists(
    st.lists(st.integers(2, 50), max_size=6) | st.integers(0, 2 * DAY) | st.none(), max_size=12
)


@given(
    st.builds(
        Rotation,
        st.integers(1, 60),
        st.none() | st.integers(0, 3),
        st.integers(0, 2),
        st.booleans(),
    ),
    ACTIONS,
)
def test_rotation_equals_model(settings: Rotation, actions: list[list[int] | int | None]) -> None:
    letters = itertools.cycle(b"abcdefghijklmnopqrstuvwxyz")
    clock, model_clock = TickingClock(), TickingClock()
    model = Lumberjack(settings, model_clock)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.log"
        sink = None
        for action in [None, *actions]:
            if action is None:
                if sink:
                    sink.close()
                sink = RotatingSink(open_appending(path), path, settings, QUIET, clock)
                model.open()
            elif isinstance(action, int):
                clock.at += action
                model_clock.at += action
            elif sink:
                events = [bytes([next(letters)]) * (size - 1) + b"\n" for size in action]
                sink.write_events(events)
                for event in events:
                    model.write(event)
        assert sink
        sink.close()
        assert contents(Path(folder)) == model.files()


def test_event_is_not_split(tmp_path: Path) -> None:
    with open_rotating(tmp_path / "trace", now=TickingClock()) as sink:
        sink.write_events([b"1\n2\n3\n", b"4\n5\n", b"6\n", b"7\n" * 9, b"8\n"])
    assert list(contents(tmp_path).values()) == [
        b"8\n",
        b"1\n2\n3\n4\n5\n",
        b"6\n",
        b"7\n" * 9,
    ]


def test_fitting_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    os_write = os.write

    def write(descriptor: int, content: bytes) -> int:
        sizes.append(len(content))
        return os_write(descriptor, content)

    with open_rotating(tmp_path / "trace") as sink:
        monkeypatch.setattr(os, "write", write)
        sink.write_events([b"1\n"] * 5)
        sink.write_events([b"2\n"] * 7)
    assert sizes == [10, 10, 4]


def test_existing_content_counts(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b"12345678\n")
    with open_rotating(path) as sink:
        sink.write_events([b"\n"])
        sink.write_events([b"9\n"])
    name = backup_name("trace", NOON)
    assert contents(tmp_path) == {"trace": b"9\n", name: b"12345678\n\n"}


def test_two_rotations_in_a_millisecond(tmp_path: Path) -> None:
    """With lumberjack, the second would replace the first."""
    with open_rotating(tmp_path / "trace.log", compress=True) as sink:
        sink.write_events([f"{number}.......\n".encode() for number in range(4)])
    assert contents(tmp_path) == {
        f"trace-{datetime(2026, 6, 15):%Y-%m-%d}T12-00-00.000.log.gz": b"0.......\n",
        f"trace-{datetime(2026, 6, 15):%Y-%m-%d}T12-00-00.001.log.gz": b"1.......\n",
        f"trace-{datetime(2026, 6, 15):%Y-%m-%d}T12-00-00.002.log.gz": b"2.......\n",
        "trace.log": b"3.......\n",
    }


def test_removed_name_is_not_reused(tmp_path: Path) -> None:
    """By its name it is the oldest file, and would be removed next."""
    with open_rotating(tmp_path / "trace.log", max_size=4, max_backups=1) as sink:
        for event in (b"one\n", b"two\n", b"six\n", b"ten\n"):
            sink.write_events([event])
            while len(os.listdir(tmp_path)) > 2:  # until the thread has removed the surplus
                time.sleep(0.001)
    assert set(contents(tmp_path).values()) == {b"six\n", b"ten\n"}


def test_mode_is_kept_by_rotation(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.touch()
    path.chmod(0o640)
    with open_rotating(path, compress=True) as sink:
        sink.write_events([b"123456\n", b"789abc\n"])
    assert {each.stat().st_mode & 0o7777 for each in tmp_path.iterdir()} == {0o640}


def test_moved_file_is_recreated(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with open_rotating(path) as sink:
        sink.write_events([b"12345678\n"])
        path.rename(tmp_path / "taken")
        sink.write_events([b"9\n"])
    assert contents(tmp_path) == {"taken": b"12345678\n", "trace": b"9\n"}


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with open_rotating(folder / "trace") as sink:
        sink.write_events([b"12345678\n"])
        folder.rename(tmp_path / "other")
        with pytest.raises(OutputError, match=f"can't rotate {folder}/trace: No such file"):
            sink.write_events([b"9\n"])
    assert contents(tmp_path / "other") == {"trace": b"12345678\n"}


def test_run_without_events_removes_nothing(tmp_path: Path) -> None:
    names = [backup_name("trace", NOON - age * DAY) for age in range(1, 4)]
    for name in names:
        (tmp_path / name).touch()
    open_rotating(tmp_path / "trace", max_backups=1, max_age=1, compress=True).close()
    assert sorted(contents(tmp_path)) == sorted(["trace", *names])


def test_leftovers_of_killed_run(tmp_path: Path) -> None:
    """Uncompressed, partly compressed, or compressed and not yet removed: one compressed file."""
    name = backup_name("trace", NOON)
    (tmp_path / name).write_bytes(b"all of it\n")
    (tmp_path / f"{name}.gz.tmp").write_bytes(b"half")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"all of it\n"))
    older = backup_name("trace", NOON - 1)
    (tmp_path / older).write_bytes(b"older\n")
    with open_rotating(tmp_path / "trace", max_backups=2, compress=True) as sink:
        sink.write_events([b"now\n"])
    assert contents(tmp_path) == {
        "trace": b"now\n",
        f"{name}.gz": b"all of it\n",
        f"{older}.gz": b"older\n",
    }


def test_failed_compression_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = backup_name("trace", NOON)
    (tmp_path / f"{name}.gz.tmp").mkdir()
    with (
        open(2, "w", closefd=False) as stderr,
        open_rotating(tmp_path / "trace", compress=True, log=Log(stderr)) as sink,
    ):
        sink.write_events([b"12345678\n", b"9\n"])
    assert (tmp_path / name).read_bytes() == b"12345678\n"
    log = capfd.readouterr().err
    assert f"WARN Failed to compress a rotated file file={tmp_path / name} error=" in log


def test_cancelled_compression_keeps_file(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(os.urandom(1 << 20))
    answers = iter([False, False, True])
    compress(path, lambda: next(answers))
    assert os.listdir(tmp_path) == ["trace"]
    compress(path, lambda: False)
    assert os.listdir(tmp_path) == ["trace.gz"]


def test_second_signal_ends_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_logged = threading.Event()
    compressed = []

    class NotifyingLog(Log):
        def info(self, message: str, **values: object) -> None:
            has_logged.set()

    def compress_interrupted(path: Path, is_cancelled: Callable[[], bool]) -> None:
        compressed.append(path.name)
        has_logged.wait()
        os.kill(os.getpid(), signal.SIGINT)
        while not is_cancelled():
            pass
        compress(path, is_cancelled)

    monkeypatch.setattr(rotation, "compress", compress_interrupted)
    names = [backup_name("trace", NOON - age) for age in (0, 1)]
    for name in names:
        (tmp_path / name).write_bytes(b"1\n")
    sink = open_rotating(tmp_path / "trace", compress=True, log=NotifyingLog(None))
    sink.write_events([b"2\n"])
    with pytest.raises(KeyboardInterrupt):
        sink.close()
    assert compressed == names[:1]
    assert sorted(os.listdir(tmp_path)) == sorted(["trace", *names])


def test_interrupt_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compress_until_cancelled(path: Path, is_cancelled: Callable[[], bool]) -> None:
        while not is_cancelled():
            pass
        compress(path, is_cancelled)

    monkeypatch.setattr(rotation, "compress", compress_until_cancelled)
    with pytest.raises(KeyboardInterrupt), open_rotating(tmp_path / "trace", compress=True) as sink:
        sink.write_events([b"12345678\n", b"9\n"])
        raise KeyboardInterrupt
    assert sorted(os.listdir(tmp_path)) == ["trace", backup_name("trace", NOON)]


def test_only_backups_are_found() -> None:
    name = "trace-2026-06-15T12-00-00.000.log"
    others = [
        "trace.log",
        "trace-2026-06-15T12-00-00.000.log.gz.tmp",
        "trace-2026-06-15T12-00-00.000",
        "trace-2026-06-15T12-00-00.00.log",
        "trace-2026-13-15T12-00-00.000.log",
        "trace-x-2026-06-15T12-00-00.000.log",
        "trace-2026-06-15T12-00-00.000.logs",
        "other-2026-06-15T12-00-00.000.log",
        "traceX2026-06-15T12-00-00.000Xlog",
    ]
    found = find_backups("trace.log", [*others, name, f"{name}.gz"])
    assert [(each.name, each.uncompressed_name, each.is_compressed) for each in found] == [
        (f"{name}.gz", name, True),
        (name, name, False),
    ]


@given(st.sampled_from(["trace", "trace.log", ".trace", "a.b.c", "a.", "a*b"]), st.data())
def test_names_round_trip(name: str, data: st.DataObject) -> None:
    now = data.draw(st.integers(0, 4_000_000_000_000))
    stamped = backup_name(name, now)
    for suffix in ("", ".gz"):
        (found,) = find_backups(name, [stamped + suffix])
        assert (found.name, found.uncompressed_name) == (stamped + suffix, stamped)
        # The hour in which daylight saving time ends is there twice.
        assert abs(found.rotated - now) in {0, 3_600_000}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trace.log", "trace-2026-11-23T05-18-33.584.log"),
        ("trace", "trace-2026-11-23T05-18-33.584"),
        ("a.b.log", "a.b-2026-11-23T05-18-33.584.log"),
        (".trace", "-2026-11-23T05-18-33.584.trace"),  # as Go's filepath.Ext splits it
    ],
)
def test_names_are_local(name: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        assert backup_name(name, 1795407513584) == expected
        assert find_backups(name, [expected])[0].rotated == 1795407513584
    finally:
        monkeypatch.undo()
        time.tzset()


def test_age_is_by_name() -> None:
    backups = find_backups("t", [backup_name("t", NOON - DAY - more) for more in (0, 1)])
    expired = expired_backups(backups, Rotation(1, None, 1, False), NOON)
    assert [each.rotated for each in expired] == [NOON - DAY - 1]


def open_file(flags: str) -> Sink:
    """Return the open output for events of a run; its caller closes it."""
    with ExitStack() as stack:
        sink = open_event_sink(configured(flags), NEVER, QUIET, stack)
        stack.pop_all()
    return sink


def test_limits() -> None:
    assert rotation_of(RotationLimits(100, 0, 0, False)) == Rotation(100 << 20, None, 0, False)
    assert rotation_of(RotationLimits(0, 0, 0, False)).max_size == 100 << 20
    assert rotation_of(RotationLimits(3, 4, 5, True)) == Rotation(3 << 20, 4, 5, True)


def test_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[RotationLimits] = []

    def find_rotation(limits: RotationLimits) -> Rotation:
        given.append(limits)
        return rotation_of(limits)

    monkeypatch.setattr(rotation, "rotation_of", find_rotation)
    flags = (
        "--output-file-max-size 3 --output-file-max-backups 4 --output-file-max-age 5"
        " --output-file-compress"
    )
    for more in ("", flags):
        open_file(f"--output-file {tmp_path}/t {more}").close()
    assert given == [RotationLimits(100, 0, 0, False), RotationLimits(3, 4, 5, True)]


def test_only_regular_files_rotate(tmp_path: Path) -> None:
    assert type(open_file("--output-file /dev/null")) is Sink
    assert type(open_file(f"--output-file {tmp_path}/t")) is RotatingSink
    assert type(open_file("")) is Sink


def test_target_of_link_is_rotated(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target = tmp_path / "disk" / "trace"
    link = tmp_path / "link"
    link.symlink_to(target)
    flags = f"--output-file {link} --output-file-max-size 1"
    with open_file(flags) as sink:
        sink.write_events([b"1" * (1 << 20), b"2\n"])
    assert link.is_symlink() and link.read_bytes() == target.read_bytes() == b"2\n"
    assert len(os.listdir(target.parent)) == 2


def test_close_waits_and_logs(tmp_path: Path) -> None:
    stream = io.StringIO()
    with open_rotating(
        tmp_path / "trace", max_size=8 << 20, compress=True, log=Log(stream)
    ) as sink:
        sink.write_events([os.urandom(8 << 20), b"2\n"])
    assert sorted(os.listdir(tmp_path)) == ["trace", f"{backup_name('trace', NOON)}.gz"]
    assert stream.getvalue().endswith(" INFO Compressing rotated files..\n")
