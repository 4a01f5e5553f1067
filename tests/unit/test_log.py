"""Log lines have slog's format, and a failed write never ends a trace."""

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


class BrokenStream(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def isatty(self) -> bool:
        raise ValueError("I/O operation on closed file")


def test_lines_have_slog_format(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_debug_lines_need_debug() -> None:
    quiet, debug = io.StringIO(), io.StringIO()
    Log(quiet).debug("Found", count=1)
    Log(debug, debug=True).debug("Found", count=1)
    assert quiet.getvalue() == ""
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d DEBUG Found count=1\n", debug.getvalue())


def test_broken_stream_does_not_raise() -> None:
    closed = io.StringIO()
    closed.close()
    full = open("/dev/full", "w")  # noqa: SIM115 -- closed below
    read, write = os.pipe()
    os.close(read)
    pipe = os.fdopen(write, "w")
    for stream in (closed, BrokenStream(), full, pipe, None):
        with Log(stream).progress(2, "x") as progress:
            progress.advance()
        Log(stream).info("hello", value="\udcff")
    for file in (full, pipe):
        file.close()  # raises if Python's buffer is not empty: the status would be 120


def test_progress_needs_a_terminal() -> None:
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        with Log(stream).progress(4, "Attaching") as progress:
            progress.advance(4)
    assert file.getvalue() == ""
    assert terminal.getvalue().endswith(f"\r\x1b[KAttaching [{'#' * 40}] 4/4\n")
    assert terminal.getvalue().startswith(f"\r\x1b[KAttaching [{'.' * 40}] 0/4")


def test_operation_is_drawn_on_a_terminal() -> None:
    """A line of the log replaces it, and so does a progress bar inside it."""
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
    lines = [re.sub(r"^\S+ \S+ INFO ", "", line) for line in terminal.getvalue().split("\x1b[K")]
    bar = "Attaching [{}] {}/1"
    assert [line.rstrip("\r") for line in lines] == [
        "",
        "Compiling...",
        "hello\n",
        bar.format("." * 40, 0),
        bar.format("#" * 40, 1),
        bar.format("#" * 40, 1) + "\n",
        "bye\n",
    ]


def test_progress_draws_10_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    terminal = Terminal()
    progress = Progress(terminal, 1000, "x")
    for step in range(1000):
        now = 100 + step / 1000  # a second in all
        progress.advance()
    assert terminal.getvalue().count("\r") == 10


def test_progress_counts_all_threads() -> None:
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


def test_line_during_progress() -> None:
    terminal = Terminal()
    logger = Log(terminal)
    with logger.progress(2, "x"):
        logger.warn("odd")
    assert re.search(r"0/2\r\x1b\[K\d{4}/.* WARN odd\n\r\x1b\[Kx ", terminal.getvalue())


def test_progress_with_zero_steps() -> None:
    with Log(Terminal()).progress(0, "x"):
        pass


def test_non_blocking_terminal_gets_all() -> None:
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
