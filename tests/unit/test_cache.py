"""The cache: trust in its folder, atomic writes, and damaged files."""

from __future__ import annotations

import io
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pypwru import cache as cache_module
from pypwru.cache import Cache, default_folder, digest
from pypwru.log import Log

FILE = "key.pypwru"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "cache"


@pytest.fixture
def file(folder: Path) -> Path:
    """Return the file of the entry "key"."""
    Cache(folder).put("key", b"content")
    return folder / FILE


def test_get_returns_what_was_put(folder: Path) -> None:
    cache = Cache(folder)
    assert cache.get("key") is None
    cache.put("key", b"one")
    cache.put("key", b"two")
    assert cache.get("key") == Cache(folder).get("key") == b"two"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_get_allocates_the_file_size(folder: Path, file: Path) -> None:
    """A buffer of the maximal size would cost half a second in a guest."""
    assert file.stat().st_size < 100
    tracemalloc.start()
    try:
        Cache(folder).get("key")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o777, 0o710])
def test_folder_open_to_others_is_not_used(folder: Path, mode: int) -> None:
    cache = Cache(folder)
    cache.put("key", b"planted")
    folder.chmod(mode)
    assert cache.get("key") is None
    cache.put("other", b"x")
    folder.chmod(0o700)
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_folder_of_other_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(folder)
    cache.put("key", b"planted")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.get("key") is None
    cache.put("other", b"x")
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_link_to_folder_is_not_used(tmp_path: Path) -> None:
    Cache(tmp_path / "real").put("key", b"content")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    link = Cache(tmp_path / "link")
    assert link.get("key") is None
    link.put("other", b"x")
    assert [path.name for path in (tmp_path / "real").iterdir()] == [FILE]


def test_file_instead_of_folder_is_no_error(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_bytes(b"")
    cache = Cache(folder)
    cache.put("key", b"x")
    assert cache.get("key") is None


def test_failed_write_keeps_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(folder)
    cache.put("key", b"old")

    def refuse(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "replace", refuse)
    cache.put("key", b"new")
    assert cache.get("key") == b"old"
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_writes_are_atomic(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the new file is renamed, a reader gets the old content."""
    cache = Cache(folder)
    cache.put("key", b"old")
    states = []
    replace, sync = os.replace, os.fsync
    synced: list[bytes] = []

    def record_sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_bytes())
        sync(descriptor)

    def record_and_replace(source: str, target: str, **folders: int) -> None:
        states.append((cache.get("key"), (folder / source).read_bytes()))
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", record_and_replace)
    monkeypatch.setattr(os, "fsync", record_sync)
    cache.put("key", b"new")
    ((current, draft),) = states
    assert current == b"old"
    assert [draft] == synced and draft.endswith(b"new"), "it may be cut off after a power failure"
    assert cache.get("key") == b"new"


def test_oldest_files_are_evicted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_FILES", 3)
    cache = Cache(folder)
    keys = [f"of-{number}-{digest(bytes(number))}" for number in range(5)]
    for number, key in enumerate(keys):
        cache.put(key, b"x")
        os.utime(folder / f"{key}.pypwru", (number, number))
    assert sorted(path.name for path in folder.iterdir()) == [f"{key}.pypwru" for key in keys[2:]]


def test_draft_of_killed_run_is_evicted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_FILES", 3)
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


def test_other_files_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$PYPWRU_CACHE may name a folder that has other files, too."""
    monkeypatch.setattr(cache_module, "MAX_FILES", 3)
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
    """Return ``whole``, damaged at random."""
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


def test_damaged_file_is_none(file: Path) -> None:
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


def test_renamed_file_is_none(file: Path) -> None:
    """The name of a file may be damaged, too."""
    file.rename(file.with_name("kez.pypwru"))
    assert Cache(file.parent).get("kez") is None


def make_large_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, make_large_file, lambda path: path.symlink_to(path), lambda path: None],
    ids=["fifo", "folder", "large", "link", "nothing"],
)
def test_other_file_types_are_none(file: Path, make: Callable[[Path], None]) -> None:
    file.unlink()
    make(file)
    assert Cache(file.parent).get("key") is None
    Cache(file.parent).put("key", b"new")
    assert Cache(file.parent).get("key") == (None if file.is_dir() else b"new")


def test_link_to_cache_file_is_none(file: Path) -> None:
    file.rename(file.with_name("moved"))
    file.symlink_to("moved")
    assert Cache(file.parent).get("key") is None


def log_lines(folder: Path) -> list[str]:
    """Return the log of two reads and writes in ``folder``."""
    stream = io.StringIO()
    cache = Cache(folder, Log(stream))
    for _ in range(2):
        cache.get("key")
        cache.put("key", b"x")
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("mode", "permissions"), [(0o755, "055"), (0o777, "077"), (0o2775, "075"), (0o710, "010")]
)
def test_unused_folder_is_logged_once(
    folder: Path, file: Path, mode: int, permissions: str
) -> None:
    folder.chmod(mode)
    (line,) = log_lines(folder)
    assert f"folder={folder}" in line and permissions in line
    assert "chmod 700" in line and "PYPWRU_CACHE" in line


def test_log_names_the_owner(folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    (line,) = log_lines(folder)
    assert f"user {user}'s" in line and "PYPWRU_CACHE" in line


def test_log_names_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (line,) = log_lines(tmp_path / "file" / "cache")
    assert "Not a directory" in line


def test_used_folder_is_not_logged(folder: Path) -> None:
    assert log_lines(folder) == []


def test_user_without_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, the user may be a number only."""
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


def test_default_folders(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_digest_separates_parts() -> None:
    keys = {digest(b"ab", b"c"), digest(b"a", b"bc"), digest(b"abc"), digest(b"abc", b"")}
    assert len(keys) == 4
