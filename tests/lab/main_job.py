"""Helpers of the tests of the main job: its steps, and the lines that pwru and pypwru print."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from tests.lab import results

SUITE = "main_job"


def step(kernel: str, name: str) -> Any:
    """Return one step of the job; its own failure fails only the tests that need it."""
    return results.step(kernel, SUITE, name)


class Line(NamedTuple):
    """A printed line, its fields as text; ``reason`` is None without a drop reason."""

    skb: str
    process: str
    netns: str
    mark: str
    ifindex: str
    proto: str
    mtu: str
    len: str
    tuple: str
    function: str
    reason: str | None


_FUNCTION = r"(?P<function>[\w.]+)(?:\[\w+\])?(?: ?\((?P<reason>\w+)\))?"
_OWN = re.compile(
    r"^(?P<skb>0x\w+) +\d+ +(?P<process>.*?:\d+) +(?P<netns>\d+) +(?P<mark>[0-9a-f]+) +(?:\S+:)?"
    r"(?P<ifindex>\d+) +(?P<proto>0x\w{4}) (?P<mtu>\d+) +(?P<len>\d+) +(?P<tuple>\S+) +"
    rf"{_FUNCTION}$"
)
# Debian's pwru 1.0.5; its IFACE is the bare ifindex.
_PWRU = re.compile(
    rf"^(?P<skb>0x\w+) +\d+ +\[(?P<process>.*?)\] +{_FUNCTION} netns=(?P<netns>\d+) "
    r"mark=0x(?P<mark>[0-9a-f]+) iface=(?P<ifindex>\d+) proto=(?P<proto>0x\w{4}) "
    r"mtu=(?P<mtu>\d+) len=(?P<len>\d+) (?P<tuple>\S+)$"
)


def own_lines(text: str) -> list[Line]:
    """Parse pypwru's lines, the header apart; a line of unknown form fails."""
    return _lines(_OWN, text.splitlines()[1:])


def pwru_lines(text: str) -> list[Line]:
    """Parse pwru's lines, the header apart; a line of unknown form fails."""
    return _lines(_PWRU, text.splitlines()[1:])


def _lines(form: re.Pattern[str], texts: list[str]) -> list[Line]:
    found = []
    for text in texts:
        match = form.match(text)
        assert match, f"unknown form of line: {text!r}"
        found.append(Line(**match.groupdict()))
    return found


def logged(err: str, message: str) -> dict[str, str]:
    """Return the key=value pairs of pypwru's log line ``message``."""
    form = re.compile(rf" INFO {re.escape(message)} \w+=")
    (line,) = filter(form.search, err.splitlines())
    return dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))
