"""Definitions in tracefs by sessions of two PID namespaces; uprobes stand in for kprobes.

The kernel on which pypwru is developed has no kprobes, but uprobe_events, of the same syntax and
lifetime.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from pypwru.kernel import kprobe_events as module
from pypwru.kernel.ftrace import MOUNT_POINTS
from pypwru.kernel.pseudofs import open_root
from tests.native.tracing import environment
from tests.support.need import need

pytestmark = pytest.mark.native

# Defines a probe at the program's first byte, and runs until its input ends.
_SESSION = """
import os, sys
from pypwru.kernel import kprobe_events as module
module._DEFINITIONS_FILE = "uprobe_events"
with module.open_kprobe_events() as events:
    events.define("skb", f"{os.path.realpath(sys.executable)}:0x1000")
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def _session(*before: str) -> subprocess.Popen[str]:
    session = subprocess.Popen(
        [*before, sys.executable, "-c", _SESSION],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert session.stdout
    assert session.stdout.readline()
    return session


def _defined() -> list[str]:
    with open_root("tracefs", "uprobe_events", MOUNT_POINTS) as root:
        events = os.open("uprobe_events", os.O_RDONLY, dir_fd=root)
        with open(events) as file:
            return [line for line in file if module._GROUP_PREFIX in line]


def test_session_keeps_definitions_of_other_pid_namespace() -> None:
    need(os.geteuid() == 0, "root, for tracefs")
    need(shutil.which("unshare"), "unshare, of util-linux")
    before = len(_defined())
    host = _session()
    container = _session("unshare", "--pid", "--fork", "--mount-proc")
    assert len(_defined()) == before + 2
    container.communicate()
    assert len(_defined()) == before + 1
    host.kill()
    host.wait()
    assert len(_defined()) == before + 1
    _session().communicate()
    assert len(_defined()) == before
