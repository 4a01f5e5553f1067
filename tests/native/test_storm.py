"""Names of 20,000 short processes of eight pids, 1,000 namespaces and 200 renames: none is wrong.

The oracle is the log of the storm itself (tests/support/storm.py). The quick tier has less of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.native.tracing import ip, need_tracing, tracing
from tests.support import storm
from tests.support.need import is_full_tier, need

pytestmark = pytest.mark.native

LONGEST = 40_000  # us that a process stays after it sent
PROCESSES, NAMESPACES, RENAMES = (20_000, 1_000, 200) if is_full_tier() else (1_000, 50, 30)
NAME = f"pypwru-storm-{os.getpid()}"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    need(shutil.which("gcc"), "gcc")
    return storm.build(tmp_path_factory.mktemp("s"))


@pytest.fixture
def in_namespace() -> Iterator[Sequence[str]]:
    """Yield a command that runs another in its own namespace."""
    need_tracing()
    need(shutil.which("ip"), "ip, of iproute2")
    ip("netns", "add", NAME)
    try:
        ip("-n", NAME, "link", "set", "lo", "up")
        yield ("ip", "netns", "exec", NAME)
    finally:
        ip("netns", "del", NAME)


def traced(network: storm.Network, words: Sequence[object]) -> list[Mapping[str, Any]]:
    """Return the events of a storm; none is lost."""
    with tracing(*storm.FLAGS, storm.filter_of(network)) as run:
        subprocess.run([str(word) for word in words], check=True)
    assert run.status == 0, run.stderr
    assert run.done["lost_ring_full"] == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(rows) == run.done["events"]
    return rows


def assert_names(result: storm.NameCheck, packets: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{result}")
    assert not result.wrong, result.wrong[:5]
    assert len(result.packets) >= packets
    assert result.right > result.unknown / 4


def test_names_of_short_processes(
    programs: list[Path],
    in_namespace: Sequence[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Many have one name and pid, and different programs; some exec another program."""
    log, (made, *others) = tmp_path / "log", programs
    folders = [program.parent for program in others]
    rows = traced(
        storm.PROCESSES, [*in_namespace, made, "processes", log, PROCESSES, LONGEST, *folders]
    )
    assert_names(storm.check_processes(rows, log, made), PROCESSES, capsys)


def test_names_of_short_namespaces(
    programs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and inodes are reused; each has a device of its own name."""
    need_tracing()
    log = tmp_path / "log"
    words = [programs[0], "namespaces", log, NAMESPACES, f"{NAME}-"]
    assert_names(storm.check_namespaces(traced(storm.NAMESPACES, words), log), NAMESPACES, capsys)


def test_names_of_renamed_device(
    programs: list[Path],
    in_namespace: Sequence[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A packet has the name that the device had at that moment."""
    log = tmp_path / "log"
    rows = traced(storm.RENAMES, [*in_namespace, programs[0], "renames", log, RENAMES])
    result = storm.check_renames(rows, log)
    assert_names(result, RENAMES, capsys)
    assert len({row["iface"] for row in rows}) > RENAMES / 2
