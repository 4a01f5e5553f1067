"""Hostile names through every output: no line is forged, no control character is printed, and JSON
has the name itself.
"""

from __future__ import annotations

import json
import os
import random
import unicodedata
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from pypwru.discovery.targets import Targets
from pypwru.journey.writer import JourneyWriter
from pypwru.names.event_names import NameResolver
from pypwru.needs import Needs
from pypwru.nft.ruleset import decode_name, sanitize_line
from pypwru.output.json import JsonFormatter
from pypwru.output.printer import Printer
from pypwru.output.text import TextFormatter
from pypwru.pcap.writer import open_pcap
from pypwru.wire.record import Record
from tests.support import records
from tests.support.journeys import journey_format
from tests.support.layouts import columns_of, layout_of
from tests.support.pcaps import (
    FRAME,
    NEVER,
    QUIET,
    QueuedCaptures,
    capture_options,
    captured,
    fields,
    make_output,
)
from tests.support.records import configured, event, flow, packet, tail

FORGED = "0xffff888000000000 0   sshd:1           4026531840 0 lo:1 0x0800 65536 60 ip_rcv"
PIECES = [
    *map(chr, range(32)), *map(chr, range(0x7F, 0xA1)), *"aZ9 \\\"'é你😀", "\x1b[2J",
    "\x1b]0;x\x07",
    "\x9b31m", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\u3164", "\ufe0f", "\U000e0001",
    "\udc9b", "\udcff", f"\n{FORGED}\n", "\r", "$(id)", "%s%n", "[red]",
]  # fmt: skip
CHANCE = random.Random(1)
NAMES = ["".join(CHANCE.choices(PIECES, k=CHANCE.randrange(1, 9))) for _ in range(1000)]


def ifname(name: str) -> str:
    """Return the part of it that the kernel accepts as the name of a device."""
    return os.fsdecode(os.fsencode(name).replace(b"\0", b"")[:15])


def make_records(names: list[str], flags: str) -> list[Record]:
    """Return a record for each name."""
    config = configured(flags)
    parts = {"packet_id": (7).to_bytes(8, "little")} if Needs.of(config).packet_ids else {}
    return [
        event(
            packet(1, 0, 1 + number),
            3,
            flow(2 + number, ifindex=2, ifname=ifname(name)),
            tail=tail(config, **parts),
        )
        for number, name in enumerate(names)
    ]


def make_resolver(names: list[str]) -> NameResolver:
    """Return a resolver with a process and a namespace of each name."""
    return records.names(lambda pid, comm, start_stack: names[pid - 1])._replace(
        namespace=lambda netns, cookie: names[netns - 2]
    )


def print_events(names: list[str], flags: str) -> bytes:
    config, out = configured(flags), list[bytes]()
    formatter = (JsonFormatter if config.output_json else TextFormatter)(columns_of(config))
    printer = Printer(formatter, make_resolver(names), out.extend, layout_of(config))
    printer.show(make_records(names, flags))
    return b"".join(out)


def write_journeys(names: list[str], flags: str) -> bytes:
    config, out = configured(flags), list[bytes]()
    layout, resolver = layout_of(config), make_resolver(names)
    formatter = journey_format(config, resolver)
    writer = JourneyWriter(layout, resolver, Targets(records.FUNCTIONS), formatter, out.extend)
    for number, one in enumerate(make_records(names, flags)):
        writer.show([one._replace(packet=packet(1 + number, 0, 1 + number))])
    writer.finish()
    return b"".join(out)


@pytest.mark.parametrize(
    ("write", "flags", "lines"),
    [
        (print_events, "--output-netns-names --netns-names-max-length 20", 1),
        (print_events, "--output-netns-names --output-caller --output-tcp-flags", 1),
        (write_journeys, "--output-journey", 4),
    ],
)
def test_text(write: Callable[[list[str], str], bytes], flags: str, lines: int) -> None:
    plain, written = write(["x"] * len(NAMES), flags), write(NAMES, flags)
    assert plain.count(b"\n") == lines * len(NAMES)
    assert written.count(b"\n") == plain.count(b"\n")
    assert written.replace(b"\n", b"").decode().isprintable()
    starts = [line.split(b" ")[0] for line in written.splitlines()]
    assert starts == [line.split(b" ")[0] for line in plain.splitlines()]


def test_comm_of_exited_process() -> None:
    """Names of processes that exited before they were looked up."""
    out: list[bytes] = []
    config = configured("")
    resolver = records.names(lambda pid, comm, start_stack: "")
    comms = [os.fsencode(name).replace(b"\0", b"")[:15] for name in NAMES]
    batch = [event(packet(1, 0, 7, comm=comm), 3, flow(), tail=tail(config)) for comm in comms]
    Printer(TextFormatter(columns_of(config)), resolver, out.extend, layout_of(config)).show(batch)
    assert len(out) == len(NAMES)
    assert all(line[:-1].decode().isprintable() and line.endswith(b"\n") for line in out)


def test_json() -> None:
    """Of names that are not truncated."""
    names = [name for name in NAMES if len(os.fsencode(name)) < 11]
    written = print_events(names, "--output-json --output-netns-names").splitlines()
    assert len(written) == len(names) > 300
    for number, line in enumerate(written):
        assert not [letter for letter in line.decode() if unicodedata.category(letter) == "Cc"]
        found = json.loads(line)
        name = os.fsencode(names[number]).decode(errors="replace")
        assert found["process"] == f"{name}:{number + 1}"
        assert found["netns_name"] == name
        device = os.fsencode(ifname(names[number])).decode(errors="replace")
        assert found["iface"] == (f"{device}:2" if device else "2")
    assert len(write_journeys(names, "--output-journey --output-json").splitlines()) == len(names)


def test_pcap(tmp_path: Path) -> None:
    path, names = tmp_path / "x.pcapng", [name.replace("\0", "0") for name in NAMES[:200]]
    with ExitStack() as stack:
        flags = f"--output-pcap {path} --pcap-when every"
        config = configured(flags)
        opened_file = open_pcap(capture_options(config, "pypwru"), NEVER, QUIET, stack)
        taken = QueuedCaptures()
        output = make_output(config, opened_file, make_resolver(names), Targets(), taken)
        output.begin()
        for one in make_records(names, flags):
            taken.waiting.append((one, captured(FRAME, first=True)))
            output.show([one])
        output.close(0)
    rows = fields(path, "frame.interface_name", "frame.interface_description", "frame.comment")
    assert len(rows) == len(names)
    for row in rows:
        assert "".join(row).isprintable(), row
    blob = path.read_bytes()
    assert not [raw for raw in PIECES if len(raw) > 3 and raw[0] < " " and raw.encode() in blob]
    assert "\u202e".encode() not in blob and b"\\u202e" in blob


def test_nftables_names() -> None:
    for name in NAMES:
        octets = os.fsencode(name)
        assert decode_name(octets).isprintable() and sanitize_line(name).isprintable()
