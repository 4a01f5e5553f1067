"""The kernel's own switch: after sessions that overlap it is where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from pypwru.kernel.kprobe_events import expedite_rcu
from tests.native.tracing import environment
from tests.support.need import need

pytestmark = pytest.mark.native

KNOB = Path("/sys/kernel/rcu_expedited")


@pytest.fixture(autouse=True)
def _switched_off() -> None:
    need(os.access(KNOB, os.W_OK) and KNOB.read_text().strip() == "0", "rcu_expedited at 0")


def test_it_is_on_inside_and_off_behind() -> None:
    with expedite_rcu():
        assert KNOB.read_text().strip() != "0"
    assert KNOB.read_text().strip() == "0"


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_sessions_that_overlap_switch_it_off(first_leaves_first: bool) -> None:
    with ExitStack() as one, ExitStack() as other:
        one.enter_context(expedite_rcu())
        other.enter_context(expedite_rcu())
        for stack in (one, other) if first_leaves_first else (other, one):
            stack.close()
    assert KNOB.read_text().strip() == "0"


@pytest.mark.parametrize("setting", ["1", "2"])
def test_an_administrators_setting_stays(setting: str) -> None:
    KNOB.write_text(setting)
    try:
        with expedite_rcu():
            assert KNOB.read_text().strip() == setting
        assert KNOB.read_text().strip() == setting
    finally:
        KNOB.write_text("0")


@pytest.mark.parametrize("setting", ["0", "1", "2"])
def test_what_an_administrator_sets_meanwhile_stays(setting: str) -> None:
    try:
        with expedite_rcu():
            KNOB.write_text(setting)
        assert KNOB.read_text().strip() == setting
    finally:
        KNOB.write_text("0")


KILLED = """
import os, signal
from pypwru.kernel.kprobe_events import expedite_rcu
with expedite_rcu():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_session_left_on_is_switched_off_by_the_next() -> None:
    try:
        ended = subprocess.run([sys.executable, "-c", KILLED], env=environment(), check=False)
        assert ended.returncode == -signal.SIGKILL
        assert KNOB.read_text().strip() != "0"
        with expedite_rcu():
            assert KNOB.read_text().strip() != "0"
        assert KNOB.read_text().strip() == "0"
    finally:
        KNOB.write_text("0")
