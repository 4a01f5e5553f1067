"""Files beside modules are in the sdist, in the wheel, and in an installation."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import TREE

SHARED = {
    "man/pypwru.1": "share/man/man1/pypwru.1",
    "completions/pypwru.bash": "share/bash-completion/completions/pypwru.bash",
    "completions/_pypwru": "share/zsh/site-functions/_pypwru",
    **{
        f"contrib/wireshark/{name}": f"share/pypwru/wireshark/{name}"
        for name in ("README.md", "pypwru.lua", "pypwru/colorfilters", "pypwru/preferences")
    },
}
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md")
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))
"""


def files(folder: str) -> set[str]:
    """Return the files of the tree in ``folder``, regardless of setup.cfg."""
    found = (path for path in (TREE / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(TREE)) for path in found if "__pycache__" not in path.parts}


def python(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    return target / python("-c", BUILD, kind, target, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(TREE, folder / "tree", ignore=ignored)
    return build("sdist", folder / "tree", folder)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from the unpacked sdist, as pip and Debian do: files missing there show."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["tar", "-C", folder, "-xf", sdist], check=True)
    (source,) = folder.iterdir()
    return build("wheel", source, folder / "built")


def test_sdist_has_the_whole_tree(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {"LICENSE", "Makefile", "pyproject.toml", "setup.cfg", *PAGES, *SHARED}
    for folder in ("bench", "bpf", "docs", "pypwru", "setup", "tests", "tools"):
        expected |= files(folder)
    assert expected - names == set()


def test_wheel_has_sources_and_tables(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = files("pypwru") | {f"pypwru/{name}" for name in files("bpf")}
    assert any(name.endswith(".bpf.c") for name in expected)
    assert expected - names == set()
    assert not [name for name in names if name.startswith(("tests/", "bench/", "bpf/", "tools/"))]


def test_installed_files(wheel: Path, tmp_path: Path) -> None:
    options = ["--no-index", "--no-deps", "--no-warn-script-location", "--ignore-installed"]
    python("-m", "pip", "install", *options, "--prefix", tmp_path, wheel, cwd=tmp_path)

    for source, destination in SHARED.items():
        (installed,) = tmp_path.rglob(destination)
        assert installed.read_bytes() == (TREE / source).read_bytes()
    (headers,) = tmp_path.rglob("pypwru/bpf/event.h")
    assert headers.read_bytes() == (TREE / "bpf" / "event.h").read_bytes()
    (script,) = tmp_path.rglob("bin/pypwru")
    assert script.stat().st_mode & 0o111


OLD_PYTHON = """#!/bin/sh
exec python3 -c 'import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])' "$2"
"""


def test_old_python_is_refused_first(tmp_path: Path) -> None:
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(TREE / name, tmp_path)
    (tmp_path / "setup").mkdir()
    for name, text in (("setup/system-packages", "#!/bin/sh\ntouch asked\n"), ("old", OLD_PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["make", "PYTHON=./old", ".venv/run.stamp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("pypwru needs Python 3.10 or newer; ./old is 3.9\n")
    assert not (tmp_path / "calls").exists()
