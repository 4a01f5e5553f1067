"""The columns of a line: one row a column, which every output reads.

Widths, alignment and order are pwru's (its ``output.go``); a row says which part of a record it is
made of, so that a printer can keep the text of a part.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from pypwru.config import Config, Timestamp
from pypwru.output import tuples
from pypwru.output.clock import Clock
from pypwru.output.parts import Flow, Packet

NAME_WIDTH = 16


class Part(Enum):
    """Parts of a record."""

    PACKET = "packet"
    TIME = "time"
    FLOW = "flow"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True)
class Names:
    """Where numbers get their names: methods of ``pypwru.resolve``, and stand-ins in tests.

    Args:
        process: pid to the program's path or name; empty when there is no such process.
        interface: (inode of a network namespace, ifindex) to a name; empty when it isn't known.
        function: (address, drop reason) to the function's text.
        clock: kernel time to the times that are shown.
    """

    process: Callable[[int], str]
    interface: Callable[[int, int], str]
    function: Callable[[int, int], str]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        name: the key of JSON and of statistics.
        header: its title.
        width: a ``%`` format of the title and of the text.
        part: what its value depends on.
        value: ``(fields, names)`` to a plain value; ``fields`` is the part's own NamedTuple, and
            ``(packet part, ktime)`` for a time.
        text: that value as it is printed, before ``width``.
        lead: what stands between the column and the one before.
        grows: the text is padded to the longest one so far, unless the column is the last.
        enabled: which runs have it.
    """

    name: str
    header: str
    width: str
    part: Part
    value: Callable[[Any, Names], Any]
    text: Callable[[Any], str]
    lead: str = " "
    grows: bool = False
    enabled: Callable[[Config], bool] = lambda config: True


def center(text: str, width: int) -> str:
    """``text`` between spaces, the odd one on the right; lengths in bytes, as in pwru."""
    missing = max(width - len(os.fsencode(text)), 0)
    return " " * (missing // 2) + text + " " * (missing - missing // 2)


def cut(text: str) -> str:
    """``text``, or its last 16 bytes with ``~`` for the first of them."""
    octets = os.fsencode(text)
    if len(octets) <= NAME_WIDTH:
        return text
    return "~" + os.fsdecode(octets[1 - NAME_WIDTH :])


def process(packet: Packet, names: Names) -> str:
    """``path:pid``; of a process that is gone its name in the kernel; ``<empty>:0`` for no process."""
    path = names.process(packet.pid) or (packet.comm if packet.pid else "")
    return cut(f"{path}:{packet.pid}") if path else f"<empty>:{packet.pid}"


def interface(flow: Flow, names: Names) -> str:
    """``name:ifindex``, or the bare ifindex."""
    name = names.interface(flow.netns, flow.ifindex)
    return cut(f"{name}:{flow.ifindex}") if name else str(flow.ifindex)


def _meta(config: Config) -> bool:
    return config.output_meta


# fmt: off
# ruff: noqa: E501 -- a table: one row a column
COLUMNS: tuple[Column, ...] = (
    Column("time", "TIME", "%-23s", Part.TIME, lambda event, names: names.clock.wall(event[1]), str, enabled=lambda config: config.timestamp is Timestamp.ABSOLUTE),
    Column("skb", "SKB", "%-18s", Part.PACKET, lambda packet, names: packet.skb, hex),
    Column("cpu", "CPU", "%-3s", Part.PACKET, lambda packet, names: packet.cpu, str),
    Column("process", "PROCESS", "%-16s", Part.PACKET, process, str),
    Column("timestamp", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: event[1], str, enabled=lambda config: config.timestamp in {Timestamp.CURRENT, Timestamp.ABSOLUTE}),
    Column("timestamp", "TIMESTAMP", "%-16s", Part.TIME, lambda event, names: names.clock.since(*event), str, enabled=lambda config: config.timestamp is Timestamp.RELATIVE),
    Column("netns", "NETNS", "%-10s", Part.FLOW, lambda flow, names: flow.netns, str, enabled=_meta),
    Column("mark", "MARK/x", "%-8s", Part.FLOW, lambda flow, names: flow.mark, "{:x}".format, enabled=_meta),
    Column("iface", center("IFACE", NAME_WIDTH), "%16s", Part.FLOW, interface, lambda name: center(name, NAME_WIDTH), enabled=_meta),
    Column("proto", "PROTO", "%-6s", Part.FLOW, lambda flow, names: flow.protocol, "0x{:04x}".format, enabled=_meta),
    Column("mtu", "MTU", "%-5s", Part.FLOW, lambda flow, names: flow.mtu, str, enabled=_meta),
    Column("len", "LEN", "%-5s", Part.FLOW, lambda flow, names: flow.len, str, enabled=_meta),
    Column("tuple", "TUPLE", "%s", Part.FLOW, lambda flow, names: tuples.tuple_of(flow), partial(tuples.text, flags=False), grows=True, enabled=lambda config: config.output_tuple and not config.output_tcp_flags),
    Column("tuple", "TUPLE", "%s", Part.FLOW, lambda flow, names: tuples.tuple_of(flow), partial(tuples.text, flags=True), grows=True, enabled=lambda config: config.output_tuple and config.output_tcp_flags),
    Column("func", "FUNC", "%s", Part.FUNCTION, lambda function, names: names.function(*function), str, grows=True),
)
# fmt: on


def columns(config: Config) -> tuple[Column, ...]:
    """The columns of a run, in the order of its lines."""
    return tuple(column for column in COLUMNS if column.enabled(config))
