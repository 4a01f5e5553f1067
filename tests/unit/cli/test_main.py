"""The command as a process that nobody gave any right: statuses, streams, one line an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pypwru import __version__
from pypwru.cli import main as command
from pypwru.cli.flags import usage
from pypwru.config import Config
from pypwru.errors import FilterError, KernelError, OutputClosed, PypwruError, UsageError
from pypwru.log import Log
from tests.support.imports import COMMAND


def pypwru(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pypwru", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version() -> None:
    ended = pypwru("--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"pypwru {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_can_be_paged(flag: str) -> None:
    ended = pypwru(flag)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == usage("python -m pypwru")


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        ("--nosuch", "unknown flag: --nosuch"),
        ("--backend", "flag needs an argument: --backend"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("---", "bad flag syntax: ---"),
        ("--help --nosuch", "unknown flag: --nosuch"),
        ("--priority=9 icmp", 'invalid argument "9" for "--priority" flag: must be 0 to 3'),
        ("--output-bpfmap", "--output-bpfmap has no function to trace"),
    ],
)
def test_a_usage_error_is_where_help_is_then_one_line_and_2(arguments: str, last: str) -> None:
    ended = pypwru(*arguments.split())
    assert (ended.returncode, ended.stdout) == (2, "")
    where, told = ended.stderr.removesuffix("\n").split("\n")
    assert where == "python -m pypwru --help lists the options"
    assert told.startswith(last)


def test_a_hint_stands_where_one_is_known() -> None:
    ended = pypwru("-i", "eth0", "icmp")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "-i eth0: take --filter-ifname eth0",
        "unknown shorthand flag: 'i' in -i",
    ]


def test_a_bad_filter_is_one_line_and_1() -> None:
    """Nobody's rights suffice to be told: the filter is compiled before anything is asked for."""
    ended = pypwru("icmp andd")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "syntax error" in ended.stderr and ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no\n\x1b[31m\u202esuch"],
        ["--functions", "/nowhere/\n\x1b[31m\u202e"],
        ["--functions", "/nowhere/" + "x" * 100_000],
        ["--filter-func", "(" + "\x9b\n" * 20_000],
        ["--category", "x" * 100_000],
        ["x" * 100_000],
        ["--" + "x" * 100_000],
        ["--filter-skb-expr", "\n" + "x" * 100_000],
    ],
    ids=lambda arguments: arguments[-1][:12].encode("unicode_escape").decode(),
)
def test_an_error_is_a_line_that_can_be_read(arguments: list[str]) -> None:
    """Whatever of the command line it repeats."""
    ended = pypwru(*arguments)
    assert ended.returncode in (1, 2)
    *hints, line = ended.stderr.removesuffix("\n").split("\n")
    assert len(hints) == (ended.returncode == 2)
    for each in (*hints, line):
        assert each.isprintable() and 20 < len(each) < 5000


@pytest.mark.parametrize(
    ("error", "status"),
    [(KernelError("no"), 1), (FilterError("no"), 1), (UsageError("no"), 2), (PypwruError("no"), 1)],
)
def test_the_tree_gives_the_status(
    error: PypwruError,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(config: Config, log: Log, command: str) -> None:
        raise error

    monkeypatch.setattr("pypwru.cli.run.run", run)
    assert command.main([]) == status
    assert capfd.readouterr() == ("", "pypwru: no\n")


@pytest.mark.parametrize(("flags", "told"), [([], ""), (["--debug"], "the long\nstory\n")])
def test_the_long_story_is_for_debug(
    flags: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(config: Config, log: Log, command: str) -> None:
        raise KernelError("no", "the long\nstory")

    monkeypatch.setattr("pypwru.cli.run.run", run)
    assert command.main(flags) == 1
    assert capfd.readouterr().err == f"{told}pypwru: no\n"


@pytest.mark.parametrize("module", ["pypwru.errors", "pypwru.kernel", "pypwru.cli.flags"])
def test_a_signal_while_python_loads_it(module: str) -> None:
    """Sent when this one is there, and others are not. What waits for it to end sees a signal."""
    with subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, "--list-functions"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        seen = ""
        while not seen.endswith(f" {module}\n"):
            seen = process.stderr.readline()
            assert seen, "it ended"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in told


def test_a_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: Config, log: Log, command: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pypwru.cli.run.run", run)
    assert command.main([]) == 130


def test_nobody_reads_even_the_header(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(config: Config, log: Log, command: str) -> None:
        raise OutputClosed()

    monkeypatch.setattr("pypwru.cli.run.run", run)
    assert command.main([]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("redirected", "status", "told"),
    [
        ("--version >/dev/full", 1, "pypwru: can't write standard output: No space left on device"),
        ("--version >&-", 1, "pypwru: standard output is closed"),
        ("--help >/dev/full", 0, ""),
        ("--nosuch 2>/dev/full", 2, ""),
        ("--help >&-", 0, ""),
        ("--nosuch 2>&-", 2, ""),
    ],
)
def test_streams_that_take_nothing(redirected: str, status: int, told: str) -> None:
    ended = subprocess.run(
        ["sh", "-c", f'exec "$0" -m pypwru {redirected}', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.startswith(told) and ended.stderr.count("\n") == bool(told)


def test_a_version_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "pypwru", "--version"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_the_config_is_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("pypwru.cli.run.run", lambda config, log, typed: seen.append(config))
    assert command.main(["--priority", "1", "tcp", "port", "443"]) == 0
    assert (seen[0].priority, seen[0].pcap_filter) == (1, "tcp port 443")
