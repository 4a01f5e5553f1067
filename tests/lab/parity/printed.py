"""Parses a tracer's output to events with named fields: text of three forms, and JSON.

The forms are pwru's of 1.0.12 (which are pypwru's) with any of its columns, Debian's pwru 1.0.5,
and JSON. A line of no known form is an error, never skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pypwru.config import Config, Timestamp
from pypwru.needs import Needs


@dataclass(frozen=True)
class Event:
    """One event.

    Args:
        fields: name -> text, or JSON's value; ``skb`` is always there.
        line: as printed.
        more: the lines behind it: a stack, structs.
    """

    fields: Mapping[str, Any]
    line: str
    more: Sequence[str] = field(default=())

    @property
    def skb(self) -> str:
        return str(self.fields["skb"])

    @property
    def function(self) -> str:
        """Return the function without module and reason."""
        return re.split(r"[\s(\[]", self.fields["func"])[0]

    @property
    def tuple(self) -> str:
        return str(self.fields.get("tuple"))


def _form(config: Config) -> re.Pattern[str]:
    """Return the pattern of a run's lines, which have the columns of the run."""
    timed = config.timestamp is not Timestamp.NONE
    # fmt: off
    columns: list[tuple[object, str]] = [
        (config.timestamp is Timestamp.ABSOLUTE, r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]{12}) "),
        (True, r"(?P<skb>0x[0-9a-f]+) +(?P<cpu>\d+) +(?P<process>\S.*?:\d+) *"),
        (timed, r" (?P<timestamp>-?\d+) *"),
        (config.output_meta, r" (?P<netns>\d+) +(?P<mark>[0-9a-f]+) +(?P<iface>\S+) +(?P<proto>0x\w{4}) (?P<mtu>\d+) +(?P<len>\d+) *"),  # noqa: E501
        (Needs.of(config).control_block, r" \[(?P<cb>0x[\w,]+)\]"),
        (config.output_netns_names, r" *?(?P<netns_name>\S*?) *"),
        (config.output_tuple, r" (?P<tuple>\S*:\d+->\S*:\d+\([\w|:]*\)) *"),
        (True, r" (?P<func>\S+(?: \(\d+\))?)"),
        (config.output_caller, r" +(?P<caller>\S+)"),
        (True, r"(?P<tail>.*)$"),
    ]
    # fmt: on
    return re.compile("^" + "".join(form for shown, form in columns if shown))


# Debian's pwru 1.0.5 with --output-meta and --output-tuple or without.
_FUNCTION_OLD = r"(?P<func>[^\s(]+(?:\t\[\w+\])?(?: ?\(\w+\))?)"
_TIME_OLD = r"(?: +(?P<timestamp>\d+)(?= |$))?"
_OLD = re.compile(
    rf"^(?P<skb>0x\w+) +(?P<cpu>\d+) +\[(?P<process>.*?)\] +{_FUNCTION_OLD}{_TIME_OLD}"
    r"(?: netns=(?P<netns>\d+) mark=0x(?P<mark>[0-9a-f]+) iface=(?P<iface>\S+) "
    r"proto=(?P<proto>0x\w{4}) mtu=(?P<mtu>\d+) len=(?P<len>\d+))?(?: (?P<tuple>\S+))?(?P<tail>.*)$"
)
_FIRST = re.compile(r"^(?:\d{4}-\d\d-\d\dT\S+ )?0x[0-9a-f]+ +\d+ ")
_HEADER = re.compile(r"^(TIME +)? *SKB ")


class UnknownForm(ValueError):
    """A printed line that no tracer prints in such a run."""


def events(text: str, config: Config, old: bool = False) -> tuple[str, list[Event]]:
    """Return the header, empty where there is none, and the events of an output.

    Args:
        text: standard output, or the file of ``--output-file``.
        config: of the run.
        old: pwru 1.0.5 printed it.
    """
    lines = text.splitlines()
    if config.output_json:
        return "", [_object(line) for line in lines]
    header = lines.pop(0) if lines and _HEADER.match(lines[0]) else ""
    form = _OLD if old else _form(config)
    found: list[tuple[str, dict[str, str], list[str]]] = []
    for line in lines:
        if _FIRST.match(line):
            match = form.match(line)
            if not match:
                raise UnknownForm(line)
            fields = {name: value for name, value in match.groupdict().items() if value is not None}
            if old:
                fields |= _as_now(fields)
            found.append((line, fields, []))
        elif found:
            found[-1][2].append(line)
        else:
            raise UnknownForm(line)
    return header, [Event(fields, line, more) for line, fields, more in found]


def _as_now(fields: Mapping[str, str]) -> dict[str, str]:
    """Convert fields of pwru 1.0.5: ping(264) is ping:264 now, and 2(eth0) is eth0:2."""
    process = re.sub(r"\((\d+)\)$", r":\1", fields["process"])
    iface = re.sub(r"^(\d+)\((.*)\)$", r"\2:\1", fields.get("iface", ""))
    return {"process": process} | ({"iface": iface} if iface else {})


def _object(line: str) -> Event:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise UnknownForm(line) from error
    if not isinstance(fields, dict) or "skb" not in fields:
        raise UnknownForm(line)
    return Event(fields, line)
