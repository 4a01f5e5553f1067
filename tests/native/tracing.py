"""A real pypwru, started and stopped by facts, and its own network to trace.

Tracing sees the whole machine: a test filters by the addresses of its own ``Network``, which no
other process uses.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from tests.support.need import need
from tests.support.paths import TREE as TREE

COMMAND = (sys.executable, "-m", "pypwru")
TIMEOUT = 60  # s, after which a process is hung

# Sends each argument after the first, frames in hex, out of the device that is the first.
_SENDER = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
    link.bind((sys.argv[1], 0))
    for frame in sys.argv[2:]:
        link.send(bytes.fromhex(frame))
"""


class Line(NamedTuple):
    """The columns of a default line, as printed."""

    skb: str
    cpu: str
    process: str
    netns: str
    mark: str
    iface: str
    proto: str
    mtu: str
    len: str
    tuple: str
    func: str


HEADER = [{"mark": "MARK/x"}.get(name, name.upper()) for name in Line._fields]


@dataclass
class Run:
    """One pypwru; everything but ``process`` is set once ``tracing`` is over."""

    process: subprocess.Popen[bytes]
    status: int = -1
    stdout: str = ""
    stderr: str = ""
    done: dict[str, int] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        """The lines of events, of a run with the default columns."""
        header, *events = self.stdout.splitlines()
        assert header.split() == HEADER
        return [Line._make(event.split()) for event in events]

    def maps(self) -> str:
        """Return its memory mappings now."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()


def need_tracing() -> None:
    """Skip where the kernel, or this process, can't trace by raw tracepoints."""
    need(os.geteuid() == 0, "root, to trace")
    need(Path("/sys/kernel/btf/vmlinux").exists(), "/sys/kernel/btf/vmlinux")


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a pypwru of this checkout."""
    return {**os.environ, "PYTHONPATH": str(TREE), **more}


def pypwru(
    *arguments: str, before: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it until it ends by itself; ``before`` is a command that runs it."""
    return subprocess.run(
        [*before, *COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=env or environment(),
        check=False,
    )


@contextlib.contextmanager
def tracing(
    *arguments: str,
    stop: int | None = signal.SIGINT,
    stdout: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[Run]:
    """Run pypwru by the tracepoint backend; the block begins once all is attached.

    Args:
        stop: the signal that ends it; None when it ends by itself.
        stdout: instead of a file that is read into ``Run.stdout``.
        before: a command that runs it, by exec.
    """
    need_tracing()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as files:
        ready = Path(folder, "ready")
        os.mkfifo(ready)
        ready.chmod(0o622)  # ``before`` may run it as another user
        os.chmod(folder, 0o711)
        out = files.enter_context(tempfile.TemporaryFile())
        err = files.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            [*before, *COMMAND, "--backend=tracepoint", f"--ready-file={ready}", *arguments],
            stdout=stdout or out,
            stderr=err,
            env=env or environment(),
        )
        run = Run(process)
        try:
            _wait_ready(ready, process)
            yield run
            if stop is not None:
                process.send_signal(stop)
            run.status = process.wait(TIMEOUT)
        finally:
            process.kill()
            process.wait(TIMEOUT)  # one that hangs in the kernel can't be killed
            run.stdout, run.stderr = _text(out), _text(err)
            run.done = _done(run.stderr)


def _wait_ready(ready: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the FIFO was opened and closed, or the process ended."""
    reading = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
    alive = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(reading, 0)  # POLLHUP is always reported
        poll.register(alive, select.POLLIN)
        found = poll.poll(TIMEOUT * 1000)
        assert found, "pypwru is not ready and not gone"
    finally:
        os.close(reading)
        os.close(alive)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _done(log: str) -> dict[str, int]:
    """Return the numbers of the summary line; {} without one."""
    found = re.search(r"^\S+ \S+ INFO Done (.*)$", log, re.MULTILINE)
    return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", found[1])} if found else {}


def ip(*words: str) -> None:
    """iproute2's ip."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def set_up_silent(device: str, namespace: str | None = None) -> None:
    """Set a device up that sends nothing by itself: it gets no address.

    Two requests, since of one request the kernel does "up" first (do_setlink() of
    net/core/rtnetlink.c), and an address that is deleted again was announced by then.
    """
    where = ("-n", namespace) if namespace else ()
    for words in (("addrgenmode", "none"), ("up",)):
        ip(*where, "link", "set", device, *words)


@dataclass(frozen=True)
class Network:
    """Two namespaces joined by a veth pair; ``left`` and ``right`` name them and their devices.

    Args:
        number: unique on this machine while the network exists.
    """

    number: int

    @property
    def left(self) -> str:
        return f"pw{self.number}l"

    @property
    def right(self) -> str:
        return f"pw{self.number}r"

    def v4(self, host: int) -> str:
        """Return the address of host 1 (left) or 2 (right); others have no host."""
        return f"10.{200 + self.number // 256 % 50}.{self.number % 256}.{host}"

    def v6(self, host: int) -> str:
        """As ``v4``."""
        return f"fd00:{self.number:x}::{host}"

    def mac(self, host: int) -> str:
        """Return the MAC address of the device of host 1 or 2."""
        return f"02:00:{self.number >> 8 & 255:02x}:{self.number & 255:02x}:00:{host:02x}"

    def inode(self, name: str) -> str:
        """Return the inode of the namespace ``name``, as the column NETNS has it."""
        return str(Path("/run/netns", name).stat().st_ino)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in ``left``; it may fail."""
        return subprocess.run(
            ["ip", "netns", "exec", self.left, *command],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def ping(self, address: str, *options: str) -> None:
        """Send one echo request, which is answered."""
        found = self.run("ping", "-c1", "-W5", "-q", *options, address)
        assert found.returncode == 0, found.stdout + found.stderr

    @contextlib.contextmanager
    def pinging(self, address: str) -> Iterator[int]:
        """Send one echo request from a process that runs until the end; yield its pid."""
        words = ["ip", "netns", "exec", self.left, "ping", "-i", "3600", address]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                answered = any(" bytes from " in line for line in process.stdout)
                assert answered, "ping ended without an answer"
                yield process.pid
            finally:
                process.kill()

    def send(self, frames: Sequence[bytes], device: str | None = None) -> None:
        """Send frames from ``left``."""
        hexes = [frame.hex() for frame in frames]
        found = self.run(sys.executable, "-c", _SENDER, device or self.left, *hexes)
        assert found.returncode == 0, found.stderr


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a ``Network``, and remove it at the end."""
    need_tracing()
    for command, package in (("ip", "iproute2"), ("ping", "iputils-ping")):
        need(shutil.which(command), f"{command}, of {package}")
    made = Network(os.getpid() % 65536)
    names = (made.left, made.right)
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", names[0], "netns", names[0], "type", "veth",
           "peer", "name", names[1], "netns", names[1])  # fmt: skip
        for host, name in enumerate(names, start=1):
            _configure(made, name, host)
        for name in names:
            _wait_until_up(name)
        for host, name in enumerate(names, start=1):
            other = 3 - host
            for address in (made.v4(other), made.v6(other)):
                ip("-n", name, "neigh", "replace", address, "lladdr", made.mac(other), "dev", name)
        made.ping(made.v6(2))
        made.ping(made.v4(2))
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _configure(made: Network, name: str, host: int) -> None:
    ip("-n", name, "link", "set", name, "address", made.mac(host), "up")
    ip("-n", name, "address", "add", f"{made.v4(host)}/24", "dev", name)
    ip("-n", name, "address", "add", f"{made.v6(host)}/64", "dev", name, "nodad")


def _wait_until_up(name: str) -> None:
    """Wait until packets can leave a device: a worker opens its queue after the other end came up
    (linkwatch_do_dev() of net/core/link_watch.c), and what is sent before is lost.
    """
    words = ["ip", "-n", name, "-oneline", "link", "show", name]
    end = time.monotonic() + TIMEOUT
    while " state UP " not in (shown := subprocess.check_output(words, text=True)):
        assert time.monotonic() < end, shown
        time.sleep(0.01)
