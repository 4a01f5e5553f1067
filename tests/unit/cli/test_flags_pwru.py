"""Flags, types and defaults of pwru, compared with the help of pwru itself.

``tests/data/pwru_help.txt`` is the standard error of ``pwru --help`` of cilium/pwru at 70b1b60.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from pypwru.cli.flags import FLAGS, parse, usage
from pypwru.config import Config
from tests.support.paths import DATA

RECORDED = DATA / "pwru_help.txt"
# pflag's FlagUsages: six columns, the name, the type unless it is bool, three spaces, the text.
_LINE = re.compile(
    r"  (?:-(?P<short>.), |    )--(?P<name>[a-z0-9-]+)(?: (?P<type>\S+))? {3,}"
    r"(?P<help>\S.*?)(?: \(default (?P<default>[^()]+)\))?"
)


class HelpFlag(NamedTuple):
    """A flag as a help text has it."""

    name: str
    short: str
    type: str
    default: str


def flags_of(text: str) -> dict[str, HelpFlag]:
    """Return flags by name, from all lines after the three of the head but titles of groups."""
    shown = {}
    for line in text.splitlines()[3:]:
        if not line.startswith(" "):
            continue
        match = _LINE.fullmatch(line)
        assert match, line
        fields = {name: match[name] or "" for name in HelpFlag._fields}
        shown[fields["name"]] = HelpFlag(**fields)
    return shown


PWRU = flags_of(RECORDED.read_text())
EXTENSIONS = {flag.name for flag in FLAGS if flag.extension}


def test_recorded_help_is_complete() -> None:
    assert len(PWRU) == 45
    assert PWRU["help"] == HelpFlag("help", "h", "", "")
    assert PWRU["timestamp"] == HelpFlag("timestamp", "", "string", '"none"')
    assert PWRU["filter-mark"] == HelpFlag("filter-mark", "", "mark[/mask]", "0x0/0x0")
    assert PWRU["set-percpu-buf"] == HelpFlag("set-percpu-buf", "", "uint32", "4096")


def test_help_has_flags_of_pwru() -> None:
    ours = flags_of(usage("pwru"))
    assert {name: flag for name, flag in ours.items() if name not in EXTENSIONS} == PWRU
    assert not EXTENSIONS & PWRU.keys()


def test_head_of_help_is_that_of_pwru() -> None:
    assert usage("pwru").splitlines()[:3] == RECORDED.read_text().splitlines()[:3]


def test_hidden_flag() -> None:
    """The only hidden flag of pwru (types.go); its help doesn't have it."""
    assert [flag.name for flag in FLAGS if flag.hidden] == ["ready-file"]
    config = parse(["--ready-file", "/run/x"])
    assert isinstance(config, Config) and config.ready_file == Path("/run/x")


@pytest.mark.parametrize("flag", PWRU.values(), ids=lambda flag: flag.name)
def test_default_is_that_of_pwru(flag: HelpFlag) -> None:
    """Given on the command line, it changes nothing. pflag omits defaults that are zero values."""
    zeros = {"": "false", "string": "", "strings": "", "int": "0", "uint": "0"}
    default = flag.default.strip('"') or zeros[flag.type]
    assert parse([f"--{flag.name}={default}"]) == parse([])
