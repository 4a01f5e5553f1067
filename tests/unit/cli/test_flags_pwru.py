"""No flag, type or default of pwru is missing, judged by what pwru itself says.

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


class Shown(NamedTuple):
    """A flag as a help text shows it."""

    name: str
    short: str
    type: str
    default: str


def flags_of(text: str) -> dict[str, Shown]:
    """Name to flag, of every line behind the three of the head that is none of a group."""
    shown = {}
    for line in text.splitlines()[3:]:
        if not line.startswith(" "):
            continue
        match = _LINE.fullmatch(line)
        assert match, line
        fields = {name: match[name] or "" for name in Shown._fields}
        shown[fields["name"]] = Shown(**fields)
    return shown


PWRU = flags_of(RECORDED.read_text())
OWN = {flag.name for flag in FLAGS if flag.extension}


def test_the_recorded_help_is_whole() -> None:
    assert len(PWRU) == 45
    assert PWRU["help"] == Shown("help", "h", "", "")
    assert PWRU["timestamp"] == Shown("timestamp", "", "string", '"none"')
    assert PWRU["filter-mark"] == Shown("filter-mark", "", "mark[/mask]", "0x0/0x0")
    assert PWRU["set-percpu-buf"] == Shown("set-percpu-buf", "", "uint32", "4096")


def test_our_help_shows_the_same_flags_types_and_defaults() -> None:
    ours = flags_of(usage("pwru"))
    assert {name: flag for name, flag in ours.items() if name not in OWN} == PWRU
    assert not OWN & PWRU.keys()


def test_the_head_is_pwrus() -> None:
    assert usage("pwru").splitlines()[:3] == RECORDED.read_text().splitlines()[:3]


def test_the_hidden_flag() -> None:
    """The only one (types.go); a help can't show it."""
    assert [flag.name for flag in FLAGS if flag.hidden] == ["ready-file"]
    config = parse(["--ready-file", "/run/x"])
    assert isinstance(config, Config) and config.ready_file == Path("/run/x")


@pytest.mark.parametrize("flag", PWRU.values(), ids=lambda flag: flag.name)
def test_the_default_that_pwru_shows_is_what_we_do(flag: Shown) -> None:
    """Typed out, it changes nothing. pflag shows none for its zero values."""
    zeros = {"": "false", "string": "", "strings": "", "int": "0", "uint": "0"}
    default = flag.default.strip('"') or zeros[flag.type]
    assert parse([f"--{flag.name}={default}"]) == parse([])
