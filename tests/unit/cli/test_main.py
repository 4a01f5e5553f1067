"""The command as an unprivileged process: exit statuses, streams, one line an error."""

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
    process = pypwru("--version")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"pypwru {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_can_be_paged(flag: str) -> None:
    process = pypwru(flag)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == usage("python -m pypwru")


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
def test_usage_error_is_two_lines_status_2(arguments: str, last: str) -> None:
    process = pypwru(*arguments.split())
    assert (process.returncode, process.stdout) == (2, "")
    pointer, message = process.stderr.removesuffix("\n").split("\n")
    assert pointer == "python -m pypwru --help lists the options"
    assert message.startswith(last)


def test_hint_replaces_pointer_to_help() -> None:
    process = pypwru("-i", "eth0", "icmp")
    assert process.returncode == 2
    assert process.stderr.splitlines() == [
        "-i eth0: take --filter-ifname eth0",
        "unknown shorthand flag: 'i' in -i",
    ]


def test_filter_error_is_one_line_status_1() -> None:
    """Needs no rights: the filter is compiled before anything that does."""
    process = pypwru("icmp andd")
    assert (process.returncode, process.stdout) == (1, "")
    assert "syntax error" in process.stderr and process.stderr.count("\n") == 1


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
def test_error_is_one_printable_line(arguments: list[str]) -> None:
    """For any part of the command line that it repeats."""
    process = pypwru(*arguments)
    assert process.returncode in (1, 2)
    *hints, line = process.stderr.removesuffix("\n").split("\n")
    assert len(hints) == (process.returncode == 2)
    for each in (*hints, line):
        assert each.isprintable() and 20 < len(each) < 5000


@pytest.mark.parametrize(
    ("error", "status"),
    [(KernelError("no"), 1), (FilterError("no"), 1), (UsageError("no"), 2), (PypwruError("no"), 1)],
)
def test_exit_status_of_error_classes(
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


@pytest.mark.parametrize(("flags", "detail"), [([], ""), (["--debug"], "the long\nstory\n")])
def test_error_detail_needs_debug(
    flags: list[str],
    detail: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(config: Config, log: Log, command: str) -> None:
        raise KernelError("no", detail="the long\nstory")

    monkeypatch.setattr("pypwru.cli.run.run", run)
    assert command.main(flags) == 1
    assert capfd.readouterr().err == f"{detail}pypwru: no\n"


@pytest.mark.parametrize("module", ["pypwru.errors", "pypwru.kernel", "pypwru.cli.flags"])
def test_signal_while_modules_load(module: str) -> None:
    """Sent once ``module`` is loaded, before others are. The status is that of the signal."""
    with subprocess.Popen(
        ["env", "--default-signal=INT", *COMMAND, "--list-functions"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        line = ""
        while not line.endswith(f" {module}\n"):
            line = process.stderr.readline()
            assert line, "it ended"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in stderr


def test_second_signal_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: Config, log: Log, command: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pypwru.cli.run.run", run)
    assert command.main([]) == 130


def test_output_closed_before_header(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(config: Config, log: Log, command: str) -> None:
        raise OutputClosed()

    monkeypatch.setattr("pypwru.cli.run.run", run)
    assert command.main([]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("redirected", "status", "message"),
    [
        ("--version >/dev/full", 1, "pypwru: can't write standard output: No space left on device"),
        ("--version >&-", 1, "pypwru: standard output is closed"),
        ("--help >/dev/full", 0, ""),
        ("--nosuch 2>/dev/full", 2, ""),
        ("--help >&-", 0, ""),
        ("--nosuch 2>&-", 2, ""),
    ],
)
def test_closed_and_full_streams(redirected: str, status: int, message: str) -> None:
    process = subprocess.run(
        ["sh", "-c", f'exec "$0" -m pypwru {redirected}', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stdout) == (status, "")
    assert process.stderr.startswith(message) and process.stderr.count("\n") == bool(message)


def test_version_into_broken_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        process = subprocess.run(
            [sys.executable, "-m", "pypwru", "--version"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (process.returncode, process.stderr) == (0, b"")


def test_config_is_of_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = []
    monkeypatch.setattr(
        "pypwru.cli.run.run", lambda config, log, command_line: configs.append(config)
    )
    assert command.main(["--priority", "1", "tcp", "port", "443"]) == 0
    assert (configs[0].priority, configs[0].pcap_filter) == (1, "tcp port 443")
