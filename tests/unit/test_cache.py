"""The cache: whose folder is trusted, and what a reader can see of a write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pypwru import cache as caching
from pypwru.cache import Cache, default_folder, digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "cache"


def test_what_is_put_is_got(folder: Path) -> None:
    cache = Cache(folder)
    assert cache.get("key") is None
    cache.put("key", b"one")
    cache.put("key", b"two")
    assert cache.get("key") == Cache(folder).get("key") == b"two"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o777, 0o710])
def test_a_folder_open_to_others_is_not_used(folder: Path, mode: int) -> None:
    cache = Cache(folder)
    cache.put("key", b"planted")
    folder.chmod(mode)
    assert cache.get("key") is None
    cache.put("other", b"x")
    assert not (folder / "other").exists()


def test_a_folder_of_somebody_else_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(folder)
    cache.put("key", b"planted")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.get("key") is None
    cache.put("other", b"x")
    assert not (folder / "other").exists()


def test_a_link_to_a_folder_is_not_used(tmp_path: Path) -> None:
    Cache(tmp_path / "real").put("key", b"content")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    link = Cache(tmp_path / "link")
    assert link.get("key") is None
    link.put("other", b"x")
    assert not (tmp_path / "real" / "other").exists()


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

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "replace", refuse)
    cache.put("key", b"new")
    assert cache.get("key") == b"old"
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_a_reader_never_sees_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment before the new file takes the name, the name still has the old content."""
    cache = Cache(folder)
    cache.put("key", b"old")
    seen = []
    replace = os.replace

    def look(source: str, target: Path) -> None:
        seen.append((cache.get("key"), Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    cache.put("key", b"new")
    assert seen == [(b"old", b"new")]
    assert cache.get("key") == b"new"


def test_the_oldest_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "MAX_FILES", 3)
    cache = Cache(folder)
    for number in range(5):
        cache.put(f"key{number}", b"x")
        os.utime(folder / f"key{number}", (number, number))
    assert sorted(path.name for path in folder.iterdir()) == ["key2", "key3", "key4"]


def test_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPWRU_CACHE", "/named")
    assert default_folder() == Path("/named")
    monkeypatch.delenv("PYPWRU_CACHE")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == Path("/var/cache/pypwru")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_folder() == Path("/xdg/pypwru")


def test_parts_of_a_key_do_not_run_together() -> None:
    keys = {digest(b"ab", b"c"), digest(b"a", b"bc"), digest(b"abc"), digest(b"abc", b"")}
    assert len(keys) == 4
