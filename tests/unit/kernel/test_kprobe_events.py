"""Removal of kprobe definitions; files stand in for tracefs, locks are real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypwru.kernel import kprobe_events as module
from pypwru.kernel.kprobe_events import KprobeEvents
from tests.support.paths import TREE

# Defines an event, and runs until its input ends.
_SESSION = """
import os, sys
from pypwru.kernel.kprobe_events import KprobeEvents
events = KprobeEvents(os.open(sys.argv[1], os.O_DIRECTORY))
events.define("skb", "ip_rcv+0")
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    (tmp_path / "kprobe_events").touch()
    monkeypatch.setattr(module, "_RCU_EXPEDITED", str(tmp_path / "none"))
    descriptor = os.open(tmp_path, os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def remaining_events(folder: Path) -> set[str]:
    """Return groups and names that were defined and not removed."""
    found: set[str] = set()
    for kind, name in re.findall(r"^(.):(\S+)", (folder / "kprobe_events").read_text(), re.M):
        (found.discard if kind == "-" else found.add)(name)
    return found


def test_running_process_keeps_its_events(root: int, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SESSION, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TREE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        other.stdout.readline()
        theirs = remaining_events(tmp_path)
        assert len(theirs) == 1

        events = KprobeEvents(root)
        events.define("skb", "ip_rcv+0")
        events.remove_unused()
        assert remaining_events(tmp_path) == theirs

        other.kill()
        other.wait()
        events.close()
    assert remaining_events(tmp_path) == set()


def test_sessions_with_equal_pids(root: int, tmp_path: Path) -> None:
    """Two sessions with one pid, as in two containers: closing one keeps the other's events."""
    one, other = KprobeEvents(root), KprobeEvents(root)
    for events in (one, other):
        events.define("skb", "ip_rcv+0")
    assert len(remaining_events(tmp_path)) == 2
    one.close()
    assert len(remaining_events(tmp_path)) == 1
    other.close()
    assert remaining_events(tmp_path) == set()


def test_leftovers_with_our_pid_are_removed(root: int, tmp_path: Path) -> None:
    line = f"p:pypwru_{os.getpid()}_7/skb_0 ip_rcv+0\np:other/skb_0 ip_rcv+0\n"
    (tmp_path / "kprobe_events").write_text(line)
    KprobeEvents(root).remove_unused()
    assert remaining_events(tmp_path) == {"other/skb_0"}


@pytest.mark.parametrize("setting", ["0\n", "1\n"])
def test_rcu_setting_of_others_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """On a file; tests/native tests it on /sys/kernel/rcu_expedited."""
    knob = tmp_path / "rcu_expedited"
    knob.write_text("0\n")
    monkeypatch.setattr(module, "_RCU_EXPEDITED", str(knob))
    with module.expedite_rcu():
        assert int(knob.read_text()) > 1
        knob.write_text(setting)
    assert knob.read_text() == setting
