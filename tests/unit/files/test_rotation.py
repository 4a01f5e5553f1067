"""Rotated files, on a real file system, with a clock of our own and small sizes."""

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
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.cli.flags import parse
from pypwru.config import Config
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
from pypwru.files.sink import Sink, open_appending, open_output
from pypwru.log import Log
from pypwru.signals import StopRequest

NOON = int(datetime(2026, 6, 15, 12).timestamp()) * 1000
DAY = 24 * 60 * 60 * 1000
NEVER = StopRequest(-1)
QUIET = Log(None)


def opened(
    path: Path,
    max_size: int = 10,
    max_backups: int | None = None,
    max_age: int = 0,
    compress: bool = False,
    log: Log = QUIET,
    now: Callable[[], int] = lambda: NOON,
) -> RotatingSink:
    asked = Rotation(max_size, max_backups, max_age, compress)
    return RotatingSink(open_appending(path), path, asked, log, now)


def contents(folder: Path) -> dict[str, bytes]:
    """Name to content, of packed files to what is in them."""
    read = {
        path.name: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in folder.iterdir()
    }
    return dict(sorted(read.items()))


class Ticking:
    """A clock whose every look is a millisecond later."""

    def __init__(self, at: int = NOON) -> None:
        self.at = at

    def __call__(self) -> int:
        self.at += 1
        return self.at


class Lumberjack:
    """What lumberjack's documentation promises of ``trace.log``.

    Differs in one: an event larger than a file is written, not refused.
    """

    def __init__(self, rotation: Rotation, clock: Ticking) -> None:
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
        """The most recent are retained up to MaxBackups; older than MaxAge goes regardless."""
        if self.rotation.max_backups is not None:
            while len(self.old) > self.rotation.max_backups:
                del self.old[min(self.old)]
        if self.rotation.max_age:
            for stamp in [each for each in self.old if now - each > self.rotation.max_age * DAY]:
                del self.old[stamp]

    def files(self) -> dict[str, bytes]:
        names = {} if self.current is None else {"trace.log": b"".join(self.current)}
        packed = ".gz" if self.rotation.compress else ""
        for stamp, events in self.old.items():
            local = datetime.fromtimestamp(stamp / 1000).strftime("%Y-%m-%dT%H-%M-%S")
            names[f"trace-{local}.{stamp % 1000:03}.log{packed}"] = b"".join(events)
        return dict(sorted(names.items()))


# Batches of sizes of events, milliseconds that pass, or None for a new run.
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
def test_as_lumberjack_says(asked: Rotation, actions: list[list[int] | int | None]) -> None:
    letters = itertools.cycle(b"abcdefghijklmnopqrstuvwxyz")
    clock, modelled = Ticking(), Ticking()
    model = Lumberjack(asked, modelled)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.log"
        sink = None
        for action in [None, *actions]:
            if action is None:
                if sink:
                    sink.close()
                sink = RotatingSink(open_appending(path), path, asked, QUIET, clock)
                model.open()
            elif isinstance(action, int):
                clock.at += action
                modelled.at += action
            elif sink:
                events = [bytes([next(letters)]) * (size - 1) + b"\n" for size in action]
                sink.write_events(events)
                for event in events:
                    model.write(event)
        assert sink
        sink.close()
        assert contents(Path(folder)) == model.files()


def test_an_event_of_several_lines_is_in_one_file(tmp_path: Path) -> None:
    with opened(tmp_path / "trace", now=Ticking()) as sink:
        sink.write_events([b"1\n2\n3\n", b"4\n5\n", b"6\n", b"7\n" * 9, b"8\n"])
    assert list(contents(tmp_path).values()) == [
        b"8\n",
        b"1\n2\n3\n4\n5\n",
        b"6\n",
        b"7\n" * 9,
    ]


def test_a_batch_that_fits_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    really = os.write

    def write(descriptor: int, content: bytes) -> int:
        sizes.append(len(content))
        return really(descriptor, content)

    with opened(tmp_path / "trace") as sink:
        monkeypatch.setattr(os, "write", write)
        sink.write_events([b"1\n"] * 5)
        sink.write_events([b"2\n"] * 7)
    assert sizes == [10, 10, 4]


def test_what_was_there_counts(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b"12345678\n")
    with opened(path) as sink:
        sink.write_events([b"\n"])
        sink.write_events([b"9\n"])
    name = backup_name("trace", NOON)
    assert contents(tmp_path) == {"trace": b"9\n", name: b"12345678\n\n"}


def test_two_in_one_millisecond(tmp_path: Path) -> None:
    """lumberjack's second would replace its first."""
    with opened(tmp_path / "trace.log", compress=True) as sink:
        sink.write_events([f"{number}.......\n".encode() for number in range(4)])
    assert contents(tmp_path) == {
        f"trace-{datetime(2026, 6, 15):%Y-%m-%d}T12-00-00.000.log.gz": b"0.......\n",
        f"trace-{datetime(2026, 6, 15):%Y-%m-%d}T12-00-00.001.log.gz": b"1.......\n",
        f"trace-{datetime(2026, 6, 15):%Y-%m-%d}T12-00-00.002.log.gz": b"2.......\n",
        "trace.log": b"3.......\n",
    }


def test_a_name_that_was_removed_in_this_millisecond_is_not_given_again(tmp_path: Path) -> None:
    """It stands for the oldest file, and would be the next to go."""
    with opened(tmp_path / "trace.log", max_size=4, max_backups=1) as sink:
        for event in (b"one\n", b"two\n", b"six\n", b"ten\n"):
            sink.write_events([event])
            while len(os.listdir(tmp_path)) > 2:  # until the thread has removed what is too much
                time.sleep(0.001)
    assert set(contents(tmp_path).values()) == {b"six\n", b"ten\n"}


def test_mode_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.touch()
    path.chmod(0o640)
    with opened(path, compress=True) as sink:
        sink.write_events([b"123456\n", b"789abc\n"])
    assert {each.stat().st_mode & 0o7777 for each in tmp_path.iterdir()} == {0o640}


def test_a_file_that_somebody_moved(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with opened(path) as sink:
        sink.write_events([b"12345678\n"])
        path.rename(tmp_path / "taken")
        sink.write_events([b"9\n"])
    assert contents(tmp_path) == {"taken": b"12345678\n", "trace": b"9\n"}


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with opened(folder / "trace") as sink:
        sink.write_events([b"12345678\n"])
        folder.rename(tmp_path / "other")
        with pytest.raises(OutputError, match=f"can't rotate {folder}/trace: No such file"):
            sink.write_events([b"9\n"])
    assert contents(tmp_path / "other") == {"trace": b"12345678\n"}


def test_a_run_that_prints_nothing_removes_nothing(tmp_path: Path) -> None:
    names = [backup_name("trace", NOON - age * DAY) for age in range(1, 4)]
    for name in names:
        (tmp_path / name).touch()
    opened(tmp_path / "trace", max_backups=1, max_age=1, compress=True).close()
    assert sorted(contents(tmp_path)) == sorted(["trace", *names])


def test_what_a_killed_run_left(tmp_path: Path) -> None:
    """Unpacked, with half a draft, or packed but not yet removed: one backup, packed."""
    name = backup_name("trace", NOON)
    (tmp_path / name).write_bytes(b"all of it\n")
    (tmp_path / f"{name}.gz.tmp").write_bytes(b"half")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"all of it\n"))
    older = backup_name("trace", NOON - 1)
    (tmp_path / older).write_bytes(b"older\n")
    with opened(tmp_path / "trace", max_backups=2, compress=True) as sink:
        sink.write_events([b"now\n"])
    assert contents(tmp_path) == {
        "trace": b"now\n",
        f"{name}.gz": b"all of it\n",
        f"{older}.gz": b"older\n",
    }


def test_what_cant_be_packed_stays_and_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = backup_name("trace", NOON)
    (tmp_path / f"{name}.gz.tmp").mkdir()
    with (
        open(2, "w", closefd=False) as stderr,
        opened(tmp_path / "trace", compress=True, log=Log(stderr)) as sink,
    ):
        sink.write_events([b"12345678\n", b"9\n"])
    assert (tmp_path / name).read_bytes() == b"12345678\n"
    told = capfd.readouterr().err
    assert f"WARN Failed to compress a rotated file file={tmp_path / name} error=" in told


def test_a_pack_that_is_abandoned_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(os.urandom(1 << 20))
    answers = iter([False, False, True])
    compress(path, lambda: next(answers))
    assert os.listdir(tmp_path) == ["trace"]
    compress(path, lambda: False)
    assert os.listdir(tmp_path) == ["trace.gz"]


def test_a_second_signal_leaves_the_rest_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    packed = []

    class Told(Log):
        def info(self, message: str, **values: object) -> None:
            told.set()

    def interrupted(path: Path, abandoned: Callable[[], bool]) -> None:
        packed.append(path.name)
        told.wait()
        os.kill(os.getpid(), signal.SIGINT)
        while not abandoned():
            pass
        compress(path, abandoned)

    monkeypatch.setattr(rotation, "compress", interrupted)
    names = [backup_name("trace", NOON - late) for late in (0, 1)]
    for name in names:
        (tmp_path / name).write_bytes(b"1\n")
    sink = opened(tmp_path / "trace", compress=True, log=Told(None))
    sink.write_events([b"2\n"])
    with pytest.raises(KeyboardInterrupt):
        sink.close()
    assert packed == names[:1]
    assert sorted(os.listdir(tmp_path)) == sorted(["trace", *names])


def test_a_second_signal_before_the_end_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patient(path: Path, abandoned: Callable[[], bool]) -> None:
        while not abandoned():
            pass
        compress(path, abandoned)

    monkeypatch.setattr(rotation, "compress", patient)
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "trace", compress=True) as sink:
        sink.write_events([b"12345678\n", b"9\n"])
        raise KeyboardInterrupt
    assert sorted(os.listdir(tmp_path)) == ["trace", backup_name("trace", NOON)]


def test_only_what_is_a_backup_is_touched() -> None:
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
    for packed in ("", ".gz"):
        (found,) = find_backups(name, [stamped + packed])
        assert (found.name, found.uncompressed_name) == (stamped + packed, stamped)
        # The hour that a winter begins with is there twice.
        assert abs(found.rotated - now) in {0, 3_600_000}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trace.log", "trace-2026-11-23T05-18-33.584.log"),
        ("trace", "trace-2026-11-23T05-18-33.584"),
        ("a.b.log", "a.b-2026-11-23T05-18-33.584.log"),
        (".trace", "-2026-11-23T05-18-33.584.trace"),  # as Go's filepath.Ext has it
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


def test_age_is_of_the_name_and_more_than_so_many_days() -> None:
    there = find_backups("t", [backup_name("t", NOON - DAY - more) for more in (0, 1)])
    going = expired_backups(there, Rotation(1, None, 1, False), NOON)
    assert [each.rotated for each in going] == [NOON - DAY - 1]


def config_of(flags: str) -> Config:
    config = parse(flags.split())
    assert isinstance(config, Config)
    return config


def test_the_flags() -> None:
    assert rotation_of(config_of("")) == Rotation(100 << 20, None, 0, False)
    assert rotation_of(config_of("--output-file-max-size 0")).max_size == 100 << 20
    assert rotation_of(
        config_of(
            "--output-file-max-size 3 --output-file-max-backups 4 --output-file-max-age 5"
            " --output-file-compress"
        )
    ) == Rotation(3 << 20, 4, 5, True)


def test_a_file_that_is_no_file_is_not_rotated(tmp_path: Path) -> None:
    assert type(open_output(config_of("--output-file /dev/null"), NEVER, QUIET)) is Sink
    assert type(open_output(config_of(f"--output-file {tmp_path}/t"), NEVER, QUIET)) is RotatingSink
    assert type(open_output(config_of(""), NEVER, QUIET)) is Sink


def test_behind_a_link_the_file_is_rotated(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target = tmp_path / "disk" / "trace"
    link = tmp_path / "link"
    link.symlink_to(target)
    flags = f"--output-file {link} --output-file-max-size 1"
    with open_output(config_of(flags), NEVER, QUIET) as sink:
        sink.write_events([b"1" * (1 << 20), b"2\n"])
    assert link.is_symlink() and link.read_bytes() == target.read_bytes() == b"2\n"
    assert len(os.listdir(target.parent)) == 2


def test_the_end_waits_and_says_so(tmp_path: Path) -> None:
    told = io.StringIO()
    with opened(tmp_path / "trace", max_size=8 << 20, compress=True, log=Log(told)) as sink:
        sink.write_events([os.urandom(8 << 20), b"2\n"])
    assert sorted(os.listdir(tmp_path)) == ["trace", f"{backup_name('trace', NOON)}.gz"]
    assert told.getvalue().endswith(" INFO Compressing rotated files..\n")
