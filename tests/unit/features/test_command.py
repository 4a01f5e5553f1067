"""``pypwru --features`` as it is typed, on this machine and by a process without rights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pypwru.features.rows import FEATURES


def pypwru(*arguments: str, tail: str = "") -> subprocess.CompletedProcess[str]:
    command = f'"$0" -m pypwru "$@" {tail}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPWRU_CACHE", str(tmp_path / "cache"))


def test_every_feature_has_a_line() -> None:
    done = pypwru("--features")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["FEATURE", "SINCE", "HERE"]
    for feature in FEATURES:
        assert sum(line.startswith(f"{feature.name}  ") for line in lines) == 1
    assert sum(line.startswith("Backend of a trace without options: ") for line in lines) == 1


def test_json_is_one_object() -> None:
    done = pypwru("--features", "--output-json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert [one["name"] for one in document["features"]] == [one.name for one in FEATURES]
    for one in document["features"]:
        assert one["here"] in (True, False, None)
        assert bool(one["cost"]) == (one["here"] is False)
        assert one["remark"] or one["here"]


def test_output_file(tmp_path: Path) -> None:
    file = tmp_path / "features.txt"
    done = pypwru("--features", "--output-file", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert file.read_text().startswith("FEATURE")


@pytest.mark.parametrize(
    ("arguments", "tail", "status", "last"),
    [
        ((), "| head -1 >/dev/null", 0, ""),
        ((), ">/dev/full", 1, "pypwru: can't write standard output: No space left on device"),
        (("--list-functions",), "", 2, "--features prints no functions: leave it out, or "),
        (("--kernel-btf", "/etc/passwd"), "", 1, "pypwru: BTF of /etc/passwd: not BTF: "),
        (("--output-file", "/proc/no/such"), "", 1, "pypwru: can't open /proc/no/such: "),
    ],
    ids=["head", "full", "list", "no BTF", "no file"],
)
def test_ends_with_one_line(arguments: tuple[str, ...], tail: str, status: int, last: str) -> None:
    done = pypwru("--features", *arguments, tail=tail)
    assert (done.returncode, done.stdout) == (status, "")
    lines = done.stderr.splitlines()
    assert len(lines) == (2 if status == 2 else bool(last))
    assert not last or lines[-1].startswith(last)
