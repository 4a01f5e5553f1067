"""Log lines are slog's, and never cost a trace."""

from __future__ import annotations

import io
import os
import re
import threading
import time

import pytest

from pypwru.log import Log, Progress, write_unbuffered


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")


def test_a_line_is_slogs(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    when = time.struct_time((2026, 11, 23, 4, 12, 8, 0, 0, 0))
    strftime = time.strftime
    monkeypatch.setattr(time, "strftime", lambda form: strftime(form, when))
    Log(stream).info("Attaching kprobes", via="kprobe-multi")
    Log(stream).warn("Some events went untraced", total=3, per_program="a=1, b=2")
    Log(stream).error("Failed to run pypwru", error="no BTF")
    assert stream.getvalue() == (
        "2026/11/23 04:12:08 INFO Attaching kprobes via=kprobe-multi\n"
        '2026/11/23 04:12:08 WARN Some events went untraced total=3 per_program="a=1, b=2"\n'
        '2026/11/23 04:12:08 ERROR Failed to run pypwru error="no BTF"\n'
    )


def test_debug_only_when_asked() -> None:
    quiet, chatty = io.StringIO(), io.StringIO()
    Log(quiet).debug("Found", count=1)
    Log(chatty, debug=True).debug("Found", count=1)
    assert quiet.getvalue() == ""
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d DEBUG Found count=1\n", chatty.getvalue())


def test_a_broken_stream_never_raises() -> None:
    closed = io.StringIO()
    closed.close()
    full = open("/dev/full", "w")  # noqa: SIM115 -- closed below
    read, write = os.pipe()
    os.close(read)
    pipe = os.fdopen(write, "w")
    for stream in (closed, Broken(), full, pipe, None):
        with Log(stream).progress(2, "x") as progress:
            progress.advance()
        Log(stream).info("hello", value="\udcff")
    for file in (full, pipe):
        file.close()  # raises if anything is left in Python's buffer: the status would be 120


def test_progress_is_drawn_on_a_terminal_only() -> None:
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        with Log(stream).progress(4, "Attaching") as progress:
            progress.advance(4)
    assert file.getvalue() == ""
    assert terminal.getvalue().endswith(f"\r\x1b[KAttaching [{'#' * 40}] 4/4\n")
    assert terminal.getvalue().startswith(f"\r\x1b[KAttaching [{'.' * 40}] 0/4")


def test_a_step_is_shown_on_a_terminal_while_it_is_done() -> None:
    """A line of the log takes its place, and so does a bar inside it."""
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        log = Log(stream)
        with pytest.raises(KeyError), log.operation("Compiling"):
            log.info("hello")
            with log.progress(1, "Attaching") as progress:
                progress.advance()
            raise KeyError
        log.info("bye")
    assert file.getvalue().count("\n") == 2 and "\x1b" not in file.getvalue()
    shown = [re.sub(r"^\S+ \S+ INFO ", "", line) for line in terminal.getvalue().split("\x1b[K")]
    bar = "Attaching [{}] {}/1"
    assert [line.rstrip("\r") for line in shown] == [
        "",
        "Compiling...",
        "hello\n",
        bar.format("." * 40, 0),
        bar.format("#" * 40, 1),
        bar.format("#" * 40, 1) + "\n",
        "bye\n",
    ]


def test_progress_draws_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    terminal = Terminal()
    progress = Progress(terminal, 1000, "x")
    for step in range(1000):
        now = 100 + step / 1000  # a second in all
        progress.advance()
    assert terminal.getvalue().count("\r") == 10


def test_progress_counts_what_threads_do() -> None:
    terminal = Terminal()
    with Log(terminal).progress(4000, "x") as progress:

        def advance() -> None:
            for _ in range(1000):
                progress.advance()

        threads = [threading.Thread(target=advance) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert terminal.getvalue().endswith(" 4000/4000\n")


def test_a_line_during_progress_has_its_own_row() -> None:
    terminal = Terminal()
    logger = Log(terminal)
    with logger.progress(2, "x"):
        logger.warn("odd")
    assert re.search(r"0/2\r\x1b\[K\d{4}/.* WARN odd\n\r\x1b\[Kx ", terminal.getvalue())


def test_nothing_to_do_is_no_division_by_zero() -> None:
    with Log(Terminal()).progress(0, "x"):
        pass


def test_a_terminal_that_somebody_made_non_blocking_gets_all() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "line\n" * 100_000
    got = bytearray()

    def read() -> None:
        while part := os.read(reading, 1 << 12):
            got.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    with open(writing, "w") as stream:
        write_unbuffered(stream, text)
    reader.join()
    os.close(reading)
    assert got.decode() == text
