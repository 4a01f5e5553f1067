"""--top on a real terminal: its tables, its keys, and the terminal restored at every end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.native.tracing import COMMAND, TIMEOUT, Network, environment, network, pypwru

pytestmark = pytest.mark.native

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as made:
        yield made


class Terminal:
    """A pypwru on its own terminal."""

    def __init__(
        self, command: Sequence[str], words: Sequence[str], columns: int = 100, lines: int = 24
    ) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [*command, "--backend=tracepoint", "--top", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm"),
            start_new_session=True,
        )
        self._theirs = theirs
        self.seen = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        self.seen = ""
        os.write(self.ours, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until ``text`` was drawn since the last key, colours apart."""
        end = time.monotonic() + TIMEOUT
        while text not in _CONTROL.sub("", self.seen) and text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            self.read()

    def read(self, seconds: float = 0.2) -> bool:
        if not select.select([self.ours], [], [], seconds)[0]:
            return False
        self.seen += os.read(self.ours, 1 << 16).decode()
        return True

    def end(self) -> int:
        """Return its exit status; its last output is read meanwhile."""
        end = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < end
            self.read()
        while self.read(0):
            pass
        return self.process.returncode

    def is_restored(self) -> bool:
        return termios.tcgetattr(self._theirs) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self._theirs)


@contextlib.contextmanager
def terminal(*words: str, command: Sequence[str] = COMMAND) -> Iterator[Terminal]:
    made = Terminal(command, words)
    try:
        yield made
    finally:
        made.close()


def test_keys_sort_switch_table_and_quit(net: Network) -> None:
    with terminal(f"icmp and host {net.v4(2)}") as top:
        top.wait_for("sort: c HITS")
        top.wait_for("events 0 ")
        net.ping(net.v4(2), "-c3", "-i0.01")
        top.wait_for("tp:net_dev_queue")
        top.press("n")
        top.wait_for("FUNCTION v")
        end = time.monotonic() + TIMEOUT
        while len(drawn := re.findall(r"tp:\w+", top.seen)) <= 3:  # rows follow their head
            assert time.monotonic() < end, top.seen
            top.read()
        assert drawn == sorted(drawn)
        assert len(drawn) > 3
        top.press("v")
        top.wait_for("FUNCTION ^")
        top.press("5")
        top.wait_for("icmp")
        top.press("h")
        top.wait_for("another table")
        top.press("q")
        assert top.end() == 0
        _, left = top.seen.split(LEAVE)
        assert SHOW in left
        assert "Statistics at" in left, "the report is on the terminal that was before"
        assert top.is_restored()


def test_resize_redraws_at_once(net: Network) -> None:
    with terminal(f"icmp and host {net.v4(2)}") as top:
        top.wait_for("sort: c HITS")
        top.seen = ""
        top.resize(60, 10)
        top.wait_for("sort: c HITS")
        top.press("1")
        top.wait_for("sort: c HITS")
        lines = _CONTROL.sub("", top.seen).replace("\r", "").split("\n")
        assert max(map(len, lines)) <= 60
        assert len(lines) <= 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_restores_terminal(net: Network, number: signal.Signals) -> None:
    with terminal(f"icmp and host {net.v4(2)}") as top:
        top.wait_for("sort: c HITS")
        assert not top.is_restored()
        top.process.send_signal(number)
        assert top.end() == 0
        assert top.seen.count(ENTER) == top.seen.count(LEAVE) == 1
        assert top.seen.rindex(SHOW) > top.seen.rindex(HIDE)
        assert top.is_restored()


def test_ctrl_z_restores_terminal_until_fg(net: Network) -> None:
    with terminal(f"icmp and host {net.v4(2)}") as top:
        top.wait_for("sort: c HITS")
        top.process.send_signal(signal.SIGTSTP)
        top.wait_for(LEAVE)
        os.waitid(os.P_PID, top.process.pid, os.WSTOPPED | os.WNOWAIT)
        assert top.is_restored()
        top.seen = ""
        top.process.send_signal(signal.SIGCONT)
        top.wait_for(ENTER)
        top.press("q")
        assert top.end() == 0
        assert top.is_restored()


# A process that takes no second signal for a repeated one.
WITHOUT_DUPLICATES = """
import sys
from pypwru import signals
signals._DUPLICATE_SECONDS = -1.0
from pypwru.cli.main import main
sys.exit(main())
"""


def test_second_signal_restores_terminal(net: Network) -> None:
    """It raises KeyboardInterrupt at any point of the tracer."""
    program = (sys.executable, "-c", WITHOUT_DUPLICATES)
    with terminal(f"icmp and host {net.v4(2)}", command=program) as top:
        top.wait_for("sort: c HITS")
        top.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, top.process.pid, os.WSTOPPED | os.WNOWAIT)
        top.process.send_signal(signal.SIGINT)
        top.process.send_signal(signal.SIGTERM)
        top.process.send_signal(signal.SIGCONT)
        assert top.end() == 130
        assert top.seen.rindex(LEAVE) > top.seen.rindex(ENTER)
        assert top.is_restored()


def test_top_without_terminal_is_usage_error() -> None:
    done = pypwru("--top", "icmp")
    assert done.returncode == 2
    assert "is none: take --stats" in done.stderr
