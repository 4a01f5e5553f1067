"""Names of programs whose pids differ between PID namespaces, or whose program changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.tracing import network, tracing
from tests.support.need import need

pytestmark = pytest.mark.native

# A container with processes of its own, one of which has the pid that is the first argument.
_CONTAINER = """
echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid
sleep 60 &
shift
exec "$@"
"""


def test_name_is_of_pid_in_host_namespace() -> None:
    """The process of that pid in the container has sent nothing; the record's own name is right."""
    need(shutil.which("unshare"), "unshare, of util-linux")
    with network() as net:
        words = ["sh", "-c", f"read _; exec ping -c1 -W5 {net.v4(2)}"]
        with subprocess.Popen(
            ["ip", "netns", "exec", net.left, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as ping:
            container = ["unshare", "-p", "-f", "--mount-proc", "sh", "-c", _CONTAINER, "sh"]
            filtered = f"icmp[icmptype] == icmp-echo and host {net.v4(2)}"
            with tracing(
                "--output-limit-lines=1", filtered, before=[*container, str(ping.pid)], stop=None
            ) as run:
                ping.communicate(b"\n")
    assert [line.process for line in run.lines] == [f"ping:{ping.pid}"]
    assert run.stderr.count("/proc is that of another PID namespace") == 1


# Sends to the first argument, and becomes sleep.
_SENDER = """
import os, socket, sys
socket.socket(type=socket.SOCK_DGRAM).sendto(b"", (sys.argv[1], 9))
os.execvp("sleep", ["sleep", "60"])
"""


def test_program_after_exec_is_not_named() -> None:
    with network() as net, tracing(f"udp and host {net.v4(2)}") as run:
        words = ["ip", "netns", "exec", net.left, sys.executable, "-c", _SENDER, net.v4(2)]
        with subprocess.Popen(words) as sender:
            while Path(f"/proc/{sender.pid}/comm").read_text() != "sleep\n":
                assert sender.poll() is None
            sender.kill()
    sent = [line.process for line in run.lines if line.process.endswith(f":{sender.pid}")]
    assert sent
    assert [process for process in sent if "sleep" in process] == []
