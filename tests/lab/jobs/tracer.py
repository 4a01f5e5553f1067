"""A running pwru or pypwru, its streams in files; used inside guests."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

StepResult = dict[str, object]

WAIT = 600.0  # seconds until a tracer without output is given up
LOOK, LOOKS = (
    0.1,
    7,
)  # seconds between two looks at a file; how many without a new line are enough


class Process(Protocol):
    """The part of subprocess.Popen that is used."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: signal.Signals) -> None: ...
    def kill(self) -> None: ...


Start = Callable[[Sequence[str], IO[bytes], IO[bytes]], Process]


def executed(words: Sequence[str], out: IO[bytes], err: IO[bytes]) -> Process:
    return subprocess.Popen(words, stdout=out, stderr=err)


class Tracer:
    """A started tracer: its streams are files, its readiness is its ready file.

    Args:
        folder: of the files.
        name: of the files, before the suffix.
        program: the command.
        words: its arguments.
        start: how it becomes a process; not by exec where that is forked.Forked.
    """

    def __init__(
        self, folder: Path, name: str, program: str, *words: str, start: Start = executed
    ) -> None:
        self.ready_file = folder / f"{name}.ready"
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.began = time.monotonic()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = start([program, *words], out, err)

    def until(self, fact: str, seen: Callable[[], bool]) -> None:
        """Poll ``seen``; a tracer that ended, or takes too long, is an error with its messages."""
        end = time.monotonic() + WAIT
        while not seen():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no {fact}; stderr: {self.err.read_text()[-2000:]}")
            select.select([], [], [], 0.05)

    def wait_ready(self) -> float:
        """Return seconds from exec to ready."""
        self.until("ready file", self.ready_file.exists)
        return time.monotonic() - self.began

    def wait_line(self, text: str) -> None:
        self.until(f"line with {text}", lambda: text in self.out.read_text())

    def wait_word(self, text: str) -> None:
        """Wait until its error stream has ``text``."""
        self.until(f"word of {text}", lambda: text in self.err.read_text())

    def end(self) -> StepResult:
        """Wait until it ends by itself."""
        return self._result(self.process.wait(WAIT))

    def stop(self, number: signal.Signals = signal.SIGINT) -> StepResult:
        """End it; pypwru has printed all then that happened before (traffic.flush)."""
        self.process.send_signal(number)
        return self._result(self.process.wait(WAIT))

    def _result(self, status: int) -> StepResult:
        texts = {"out": self.out.read_text(), "err": self.err.read_text()}
        return {"status": status, **texts, "seconds": time.monotonic() - self.began}


@contextlib.contextmanager
def tracer(
    folder: Path, name: str, program: str, *words: str, start: Start = executed
) -> Iterator[Tracer]:
    """Run a tracer with a ready file, which is killed at the end of the block."""
    ready = ["--ready-file", str(folder / f"{name}.ready")]
    running = Tracer(folder, name, program, *ready, *words, start=start)
    try:
        yield running
    finally:
        kill(running)


def kill(running: Tracer) -> None:
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait(WAIT)


def wait_quiet(running: Collection[Tracer], files: Collection[Path]) -> None:
    """Wait until none of ``files`` has grown in LOOKS looks, or every writer has ended.

    For other programs than pypwru, which prints what it has when it is stopped: there is no other
    condition, since which line is the last is what a comparison finds out. Looks are counted and
    not seconds, which also pass while the whole guest waits for a CPU.
    """
    sizes, looks = [-1], 0
    while looks < LOOKS:
        if all(one.process.poll() is not None for one in running):
            return
        now = [file.stat().st_size if file.exists() else 0 for file in files]
        sizes, looks = now, looks + 1 if now == sizes else 0
        select.select([], [], [], LOOK)
