"""The files of --debug, and errors of writing them."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from pypwru.bpf_sources import MAIN, NFT_EVAL
from pypwru.log import Log
from pypwru.program import load_time, maps
from pypwru.program.debug_files import DebugFiles, keep_unit
from tests.support.need import need

MACROS = {"NFT": "0", "TARGET_X86_64": "1", **load_time.defines(), **maps.defines()}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return a log; temporary folders are made in ``tmp_path``."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return io.StringIO()


def only_folder(parent: Path) -> Path:
    (folder,) = parent.iterdir()
    return folder


def test_folder_is_private_and_logged_once(tmp_path: Path, log: io.StringIO) -> None:
    files = DebugFiles(Log(log, debug=True))
    assert list(tmp_path.iterdir()) == []
    files.write("layout.h", "old")
    files.write("layout.h", "new\n")
    files.write("trace_skb.ebpf", "\N{REPLACEMENT CHARACTER}")

    folder = only_folder(tmp_path)
    assert folder.name.startswith("pypwru-debug-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "layout.h").read_text() == "new\n"
    assert {path.name for path in folder.iterdir()} == {"layout.h", "trace_skb.ebpf"}
    (line,) = log.getvalue().splitlines()
    assert line.endswith(f" DEBUG Kept the generated files folder={folder}")


def test_missing_temporary_folder(
    tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    files = DebugFiles(Log(log, debug=True))
    files.write("layout.h", "")
    files.write("macros.h", "")
    (line,) = log.getvalue().splitlines()
    assert " WARN Debug files are incomplete " in line
    assert line.endswith('why="No such file or directory"')


def test_full_disk_is_one_warning(tmp_path: Path, log: io.StringIO) -> None:
    files = DebugFiles(Log(log, debug=True))
    files.write("layout.h", "")
    folder = only_folder(tmp_path)
    (folder / "macros.h").symlink_to("/dev/full")
    files.write("macros.h", "#define A 1\n")
    files.write("later", "")
    _, line = log.getvalue().splitlines()
    assert " WARN Debug files are incomplete " in line
    assert f"folder={folder}" in line and 'why="No space left on device"' in line
    assert not (folder / "later").exists()


def test_file_names_of_a_unit() -> None:
    files: dict[str, str] = {}
    keep_unit(files.__setitem__, MAIN, "#define FIELD_net_ns 8\n", {"B": "2", "A": "1"})
    keep_unit(files.__setitem__, NFT_EVAL, "", {})
    assert files == {
        "layout.h": "#define FIELD_net_ns 8\n",
        "macros.h": "#define A 1\n#define B 2\n",
        "nft_eval.layout.h": "",
        "nft_eval.macros.h": "",
    }


def test_clang_reads_equal_macros(tmp_path: Path) -> None:
    need(shutil.which("clang"), "clang (package clang)")
    files: dict[str, str] = {}
    keep_unit(files.__setitem__, MAIN, "", MACROS)
    (tmp_path / "macros.h").write_text(files["macros.h"])

    def preprocess(*flags: str) -> set[str]:
        words = ["clang", "-target", "bpf", "-E", "-dM", "-x", "c", *flags, "/dev/null"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return set(done.stdout.splitlines())

    from_flags = preprocess(*(f"-D{name}={text}" for name, text in MACROS.items()))
    assert preprocess("-include", str(tmp_path / "macros.h")) == from_flags
    assert len(from_flags) > len(MACROS)
