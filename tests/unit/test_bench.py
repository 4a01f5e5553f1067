"""Bench programs without rights: their command lines, and those that need no kernel.

Each that measures on this machine's kernel is run by tests/native/test_bench.py, at its smallest
size. Those that boot a guest are run by ``make bench`` alone (``make bench ARGS=--smallest`` runs
all in a few minutes).
"""

from __future__ import annotations

import os
import re

import pytest

from tests.support.bench_programs import FOLDER, PROGRAMS, WITHOUT_RIGHTS, run

USAGE = re.compile(r"usage: bench/(\w+) \[--smallest\]")


def test_every_program_is_known() -> None:
    """bench/demo is a shell script, which takes a command; tests/native runs it, too."""
    executable = {file.name for file in FOLDER.iterdir() if file.is_file() and os.access(file, 1)}
    assert executable == {*PROGRAMS, "demo"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_the_usage_and_the_smallest_size(program: str) -> None:
    shown = run(program, ["--help"])
    assert (shown.returncode, shown.stderr) == (0, "")
    usage = USAGE.match(shown.stdout)
    assert usage and usage[1] == program
    assert "\n  --smallest " in shown.stdout


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
def test_an_invalid_command_line_is_one_line_and_status_2(
    program: str, words: list[str], message: str
) -> None:
    refused = run(program, words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"bench/{program}: {message}")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("program", WITHOUT_RIGHTS)
def test_the_smallest_size_prints_figures(program: str) -> None:
    measured = run(program, ["--smallest"])
    assert (measured.returncode, measured.stderr) == (0, "")
    lines = measured.stdout.splitlines()
    assert len(lines) >= 3
    assert all(re.search(r": \d+\.\d\d us a (line|packet)", line) for line in lines)
