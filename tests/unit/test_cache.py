"""The cache: whose folder is trusted, and what a reader can see of a write."""

from __future__ import annotations

import io
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pypwru import cache as caching
from pypwru.cache import Cache, default_folder, digest
from pypwru.log import Log

FILE = "key.pypwru"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "cache"


@pytest.fixture
def file(folder: Path) -> Path:
    """What is kept under "key"."""
    Cache(folder).put("key", b"content")
    return folder / FILE


def test_what_is_put_is_got(folder: Path) -> None:
    cache = Cache(folder)
    assert cache.get("key") is None
    cache.put("key", b"one")
    cache.put("key", b"two")
    assert cache.get("key") == Cache(folder).get("key") == b"two"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_a_read_makes_room_for_the_file_alone(folder: Path, file: Path) -> None:
    """Not for the largest there may be, whose pages cost a guest half a second."""
    assert file.stat().st_size < 100
    tracemalloc.start()
    try:
        Cache(folder).get("key")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o777, 0o710])
def test_a_folder_open_to_others_is_not_used(folder: Path, mode: int) -> None:
    cache = Cache(folder)
    cache.put("key", b"planted")
    folder.chmod(mode)
    assert cache.get("key") is None
    cache.put("other", b"x")
    folder.chmod(0o700)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_folder_of_somebody_else_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(folder)
    cache.put("key", b"planted")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.get("key") is None
    cache.put("other", b"x")
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_link_to_a_folder_is_not_used(tmp_path: Path) -> None:
    Cache(tmp_path / "real").put("key", b"content")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    link = Cache(tmp_path / "link")
    assert link.get("key") is None
    link.put("other", b"x")
    assert [path.name for path in (tmp_path / "real").iterdir()] == [FILE]


def test_a_file_in_its_place_fails_nothing(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_bytes(b"")
    cache = Cache(folder)
    cache.put("key", b"x")
    assert cache.get("key") is None


def test_a_write_that_fails_leaves_the_old_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(folder)
    cache.put("key", b"old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "replace", refuse)
    cache.put("key", b"new")
    assert cache.get("key") == b"old"
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_reader_never_sees_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment before the new file takes the name, the name still has the old content."""
    cache = Cache(folder)
    cache.put("key", b"old")
    seen = []
    replace, sync = os.replace, os.fsync
    synced: list[bytes] = []

    def keep(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_bytes())
        sync(descriptor)

    def look(source: str, target: str, **folders: int) -> None:
        seen.append((cache.get("key"), (folder / source).read_bytes()))
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", look)
    monkeypatch.setattr(os, "fsync", keep)
    cache.put("key", b"new")
    ((before, draft),) = seen
    assert before == b"old"
    assert [draft] == synced and draft.endswith(b"new"), "it may be cut off after a power failure"
    assert cache.get("key") == b"new"


def test_the_oldest_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "MAX_FILES", 3)
    cache = Cache(folder)
    keys = [f"of-{number}-{digest(bytes(number))}" for number in range(5)]
    for number, key in enumerate(keys):
        cache.put(key, b"x")
        os.utime(folder / f"{key}.pypwru", (number, number))
    assert sorted(path.name for path in folder.iterdir()) == [f"{key}.pypwru" for key in keys[2:]]


def test_a_draft_of_a_killed_run_is_forgotten_in_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "MAX_FILES", 3)
    cache = Cache(folder)

    def die(*_: object, **__: object) -> None:
        os._exit(0)

    if not (child := os.fork()):
        monkeypatch.setattr(os, "replace", die)
        cache.put(f"old-{digest()}", b"x")
    assert os.waitpid(child, 0)[1] == 0
    (draft,) = folder.iterdir()
    os.utime(draft, (0, 0))
    for number in range(3):
        cache.put(f"new-{digest(bytes(number))}", b"x")
    assert len(list(folder.iterdir())) == 3 and not draft.exists()


def test_files_of_others_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$PYPWRU_CACHE may lead to a folder that is used for something else, too."""
    monkeypatch.setattr(caching, "MAX_FILES", 3)
    folder.mkdir(mode=0o700, parents=True)
    others = [
        "notes.txt", ".profile", "id_ed25519", "bytecode", "x.pypwru", ".new-abc", "key",
        f"layout-{digest()}", f"layout-{digest()[1:]}.pypwru", f"{digest()}.pypwru", "a\nb",
        *(f"{number:040x}" for number in range(80)), "\udcff",
    ]  # fmt: skip
    for name in others:
        (folder / name).write_text(name, errors="surrogateescape")
        os.utime(folder / name, (0, 0))
    (folder / "sub").mkdir()
    for number in range(9):
        Cache(folder).put(f"layout-{digest(bytes(number))}", b"x")
    left = {path.name for path in folder.iterdir()}
    assert left > {*others, "sub"}
    assert len(left) == len(others) + 1 + 3


def spoilt(whole: bytes, chance: random.Random) -> bytes:
    """``whole``, otherwise."""
    at = chance.randrange(len(whole))
    match chance.randrange(5):
        case 0:
            return whole[:at]
        case 1:
            return whole + chance.randbytes(chance.randrange(1, 9))
        case 2:
            return whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]
        case 3:
            return bytes(len(whole))
    return whole[:at] + chance.randbytes(len(whole) - at) + b"!"


def test_what_is_damaged_is_none(file: Path) -> None:
    cache, whole, chance = Cache(file.parent), file.read_bytes(), random.Random(1)
    with file.open("r+b", buffering=0) as entry:
        for number in range(10_000):
            damaged = spoilt(whole, chance)
            entry.truncate(len(damaged))
            entry.seek(0)
            entry.write(damaged)
            assert cache.get("key") is None, damaged
            assert number % 10 or cache.get_json("key") is None
    assert cache.get_or_make("key", lambda: "anew") == "anew"
    assert cache.get_or_make("key", lambda: "again") == "anew"


def test_what_is_kept_under_another_key_is_none(file: Path) -> None:
    """One digit of a file's name may be damaged, too."""
    file.rename(file.with_name("kez.pypwru"))
    assert Cache(file.parent).get("kez") is None


def _large(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, _large, lambda path: path.symlink_to(path), lambda path: None],
    ids=["fifo", "folder", "large", "link", "nothing"],
)
def test_what_is_no_file_of_ours_is_none(file: Path, make: Callable[[Path], None]) -> None:
    file.unlink()
    make(file)
    assert Cache(file.parent).get("key") is None
    Cache(file.parent).put("key", b"new")
    assert Cache(file.parent).get("key") == (None if file.is_dir() else b"new")


def test_a_link_to_a_file_of_ours_is_none(file: Path) -> None:
    file.rename(file.with_name("moved"))
    file.symlink_to("moved")
    assert Cache(file.parent).get("key") is None


def log_lines(folder: Path) -> list[str]:
    """What the log says of ``folder`` that is read from, and written to, twice."""
    stream = io.StringIO()
    cache = Cache(folder, Log(stream))
    for _ in range(2):
        cache.get("key")
        cache.put("key", b"x")
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("mode", "shown"), [(0o755, "055"), (0o777, "077"), (0o2775, "075"), (0o710, "010")]
)
def test_the_log_says_once_why_a_folder_is_not_used(
    folder: Path, file: Path, mode: int, shown: str
) -> None:
    folder.chmod(mode)
    (line,) = log_lines(folder)
    assert f"folder={folder}" in line and shown in line
    assert "chmod 700" in line and "PYPWRU_CACHE" in line


def test_the_log_says_whose_folder_it_is(
    folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    (line,) = log_lines(folder)
    assert f"user {user}'s" in line and "PYPWRU_CACHE" in line


def test_the_log_says_why_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (line,) = log_lines(tmp_path / "file" / "cache")
    assert "Not a directory" in line


def test_nothing_is_said_of_a_folder_that_is_used(folder: Path) -> None:
    assert log_lines(folder) == []


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's may be a number alone."""
    for name in ("PYPWRU_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()
    cache = Cache(log=Log(stream))
    assert cache.get_or_make("key", lambda: 1) == 1
    assert "PYPWRU_CACHE" in stream.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPWRU_CACHE", "/named")
    assert default_folder() == Path("/named")
    monkeypatch.delenv("PYPWRU_CACHE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == Path("/var/cache/pypwru")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_folder() == Path("/xdg/pypwru")
    monkeypatch.setenv("HOME", "/home/somebody")
    for absent in ("", "relative", "~"):
        monkeypatch.setenv("XDG_CACHE_HOME", absent)
        assert default_folder() == Path("/home/somebody/.cache/pypwru")


def test_parts_of_a_key_do_not_run_together() -> None:
    keys = {digest(b"ab", b"c"), digest(b"a", b"bc"), digest(b"abc"), digest(b"abc", b"")}
    assert len(keys) == 4
