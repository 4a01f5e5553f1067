"""Functions that test_child.py calls in a child process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pypwru.errors import BuildError


def add(first: int, second: int) -> int:
    return first + second


def search_path() -> list[str]:
    return sys.path


def package() -> str:
    import pypwru

    return pypwru.__file__


def print_much() -> str:
    """Print more than a pipe holds, on both streams."""
    print("x" * 1_000_000)
    os.write(2, b"y" * 1_000_000)
    return "z" * 1_000_000


def refuse() -> None:
    raise BuildError("no such thing", "take another", "line 1\nline 2")


def use_up_memory() -> None:
    raise MemoryError


def fail() -> None:
    raise RuntimeError("of another kind")


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def descriptors() -> dict[str, str]:
    """Return the file of each descriptor, but for the one that lists them."""
    folder = "/proc/self/fd"
    listed = os.listdir(folder)
    return {fd: os.readlink(f"{folder}/{fd}") for fd in listed if os.path.exists(f"{folder}/{fd}")}


def read(fd: int) -> str:
    return os.pread(fd, 100, 0).decode()


def interrupt_itself() -> str:
    """Send this process the signals of a terminal, such as Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    return "goes on"


def niceness() -> int:
    return os.nice(0)


def sleep_from(file: str) -> None:
    """Write its process id to a file, then sleep."""
    Path(file).write_text(str(os.getpid()))
    time.sleep(600)
