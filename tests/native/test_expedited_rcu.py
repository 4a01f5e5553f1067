"""The kernel's own switch: after sessions that overlap it is where it was."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pypwru.kernel.kprobe_events import expedited_rcu
from tests.support.need import need

pytestmark = pytest.mark.native

KNOB = Path("/sys/kernel/rcu_expedited")


@pytest.fixture(autouse=True)
def _switched_off() -> None:
    need(os.access(KNOB, os.W_OK) and KNOB.read_text().strip() == "0", "rcu_expedited at 0")


def test_it_is_on_inside_and_off_behind() -> None:
    with expedited_rcu():
        assert KNOB.read_text().strip() == "1"
    assert KNOB.read_text().strip() == "0"


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_sessions_that_overlap_switch_it_off(first_leaves_first: bool) -> None:
    with ExitStack() as one, ExitStack() as other:
        one.enter_context(expedited_rcu())
        other.enter_context(expedited_rcu())
        for stack in (one, other) if first_leaves_first else (other, one):
            stack.close()
    assert KNOB.read_text().strip() == "0"


def test_an_administrators_setting_stays() -> None:
    KNOB.write_text("2")
    try:
        with expedited_rcu():
            assert KNOB.read_text().strip() == "2"
        assert KNOB.read_text().strip() == "2"
    finally:
        KNOB.write_text("0")
