"""Bench programs without rights: their command lines, and runs of those that need no kernel.

tests/native/test_bench.py runs those that measure this machine's kernel, at their smallest size.
Only ``make bench`` runs those that boot a guest (``make bench ARGS=--smallest`` runs all in a few
minutes).
"""

from __future__ import annotations

import os
import re

import pytest

from tests.support.bench_programs import FOLDER, PROGRAMS, WITHOUT_RIGHTS, run

USAGE = re.compile(r"usage: bench/(\w+) \[--smallest\]")


def test_every_program_is_listed() -> None:
    """bench/demo is a shell script that takes a command; tests/native runs it, too."""
    executable = {file.name for file in FOLDER.iterdir() if file.is_file() and os.access(file, 1)}
    assert executable == {*PROGRAMS, "demo"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_has_usage_and_smallest(program: str) -> None:
    process = run(program, ["--help"])
    assert (process.returncode, process.stderr) == (0, "")
    usage = USAGE.match(process.stdout)
    assert usage and usage[1] == program
    assert "\n  --smallest " in process.stdout


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        *((program, ["--nosuch"], "unrecognized arguments: --nosuch") for program in PROGRAMS),
        ("attach", ["9.9"], "argument KERNEL: no kernel '9.9' here, but "),
        ("backends", ["native", "9.9"], "argument KERNEL: no kernel '9.9' here, but native, "),
        ("frames", ["many"], "argument PACKETS: must be a positive number, not 'many'"),
        ("pcap", ["0"], "argument DATAGRAMS: must be a positive number, not '0'"),
        ("render", ["--", "--nosuch"], "unknown flag: --nosuch"),
        ("render", ["--", "--version"], "FLAGS are those of a run"),
    ],
)
def test_usage_error_is_one_line_status_2(program: str, words: list[str], message: str) -> None:
    process = run(program, words)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith(f"bench/{program}: {message}")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize("program", WITHOUT_RIGHTS)
def test_smallest_size_prints_figures(program: str) -> None:
    process = run(program, ["--smallest"])
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert len(lines) >= 3
    assert all(re.search(r": \d+\.\d\d us a (line|packet)", line) for line in lines)
