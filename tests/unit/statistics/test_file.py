"""Where a statistics file is written to, and as what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pypwru.errors import OutputError
from pypwru.files.sink import open_appending
from pypwru.statistics.file import StatsFile


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_new_file_has_the_mode_of_other_outputs(
    tmp_path: Path, mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(mask)
    try:
        os.close(open_appending(tmp_path / "other"))
        StatsFile(tmp_path / "stats.json").write("x")
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["stats.json"] == modes["other"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o4755, 0o2666])
def test_a_file_that_is_replaced_keeps_its_permissions_alone(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "stats.json"
    path.touch()
    path.chmod(mode)
    StatsFile(path).write("x")
    assert path.stat().st_mode & 0o7777 == mode & 0o777


def test_a_folder_that_another_takes_the_place_of(tmp_path: Path) -> None:
    """As who may write to the folder above can have it, while the trace runs."""
    mine, others = tmp_path / "mine", tmp_path / "others"
    for folder in (mine, others):
        folder.mkdir()
    (others / "stats.json").write_text("precious")
    file = StatsFile(mine / "stats.json")
    mine.rename(tmp_path / "moved")
    mine.symlink_to(others)
    file.write("x")
    assert (others / "stats.json").read_text() == "precious"
    assert (tmp_path / "moved" / "stats.json").read_text() == "x"


def test_a_link_that_takes_its_place_is_replaced_itself(tmp_path: Path) -> None:
    path, other = tmp_path / "stats.json", tmp_path / "other"
    other.write_text("precious")
    file = StatsFile(path)
    path.symlink_to(other)
    file.write("x")
    assert (path.read_text(), other.read_text()) == ("x", "precious")
    assert path.stat().st_mode & 0o002 == 0, "a link's mode is nobody's"


def test_a_link_to_what_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    StatsFile(tmp_path / "link").write("x")
    assert (tmp_path / "target").read_text() == "x" and (tmp_path / "link").is_symlink()


def test_a_named_pipe_without_a_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="choose another --stats-file"):
        StatsFile(tmp_path / "pipe")


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    file = StatsFile(tmp_path / "sub" / "stats.json")
    (tmp_path / "sub").rmdir()
    with pytest.raises(OutputError, match="No such file or directory"):
        file.write("x")
