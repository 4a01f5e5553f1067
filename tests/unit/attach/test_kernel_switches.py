"""The log about probes that are switched off; tests/lab has the events of such runs."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from pypwru.attach import kernel_switches
from pypwru.attach.kernel_switches import SWITCHES, disabling_switch, watch_switches
from pypwru.config import Backend
from pypwru.log import Log

OFF = "WARN Not seeing packets{}: {} was switched off"
ON = "WARN Seeing packets again: {} was switched on"
SOME = " in some functions"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Stand-ins for the files of all switches, by the name of the switch."""
    found = {switch.name: tmp_path / switch.name for switch in SWITCHES}
    for path in found.values():
        path.write_text("1\n")
    monkeypatch.setattr(
        kernel_switches.Switch, "open", lambda switch: os.open(found[switch.name], os.O_RDONLY)
    )
    return found


@pytest.mark.parametrize(
    ("backends", "kprobes", "ftrace"),
    [
        ({Backend.KPROBE}, "", SOME),
        ({Backend.KPROBE_MULTI}, None, ""),
        ({Backend.FENTRY}, None, ""),
        ({Backend.FENTRY_MULTI, Backend.KPROBE}, "", ""),
        ({Backend.TRACEPOINT}, None, None),
    ],
)
def test_toggled_switch_is_logged(
    files: dict[str, Path], backends: set[Backend], kprobes: str | None, ftrace: str | None
) -> None:
    for name, effect in (("kprobes", kprobes), ("ftrace", ftrace)):
        stream = io.StringIO()
        with watch_switches(backends, Log(stream)) as poll:
            for text in "1010":
                files[name].write_text(f"{text}\n")
                poll()
                poll()
            files[name].write_text("1\n")
        logged = [
            re.sub(r"^\S+ \S+ | cure=.*", "", line) for line in stream.getvalue().splitlines()
        ]
        off = [] if effect is None else [OFF.format(effect, name)]
        on = [] if effect is None else [ON.format(name)]
        assert logged == [*off, *on, *off]


def test_switch_off_at_start_is_logged(files: dict[str, Path]) -> None:
    stream = io.StringIO()
    files["ftrace"].write_text("0\n")
    with watch_switches({Backend.KPROBE}, Log(stream)) as poll:
        poll()
    assert OFF.format(SOME, "ftrace") in stream.getvalue()
    assert 'cure="echo 1 > /proc/sys/kernel/ftrace_enabled"' in stream.getvalue()


def test_backends_without_events_are_refused(files: dict[str, Path]) -> None:
    files["ftrace"].write_text("0\n")
    found = {backend for backend in Backend if disabling_switch(backend)}
    assert found == {Backend.FENTRY, Backend.FENTRY_MULTI, Backend.KPROBE_MULTI}
