"""The kernel's switch rcu_expedited: sessions restore it, also when they overlap."""

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


def test_rcu_is_expedited_inside_context() -> None:
    with expedite_rcu():
        assert KNOB.read_text().strip() != "0"
    assert KNOB.read_text().strip() == "0"


@pytest.mark.parametrize("is_first_closed_first", [True, False])
def test_overlapping_sessions_restore_switch(is_first_closed_first: bool) -> None:
    with ExitStack() as one, ExitStack() as other:
        one.enter_context(expedite_rcu())
        other.enter_context(expedite_rcu())
        for stack in (one, other) if is_first_closed_first else (other, one):
            stack.close()
    assert KNOB.read_text().strip() == "0"


@pytest.mark.parametrize("setting", ["1", "2"])
def test_setting_of_administrator_is_kept(setting: str) -> None:
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


def test_session_resets_switch_of_killed_one() -> None:
    try:
        ended = subprocess.run([sys.executable, "-c", KILLED], env=environment(), check=False)
        assert ended.returncode == -signal.SIGKILL
        assert KNOB.read_text().strip() != "0"
        with expedite_rcu():
            assert KNOB.read_text().strip() != "0"
        assert KNOB.read_text().strip() == "0"
    finally:
        KNOB.write_text("0")
