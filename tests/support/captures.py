"""Capture files as tests read them: bytes by scapy, all else by tshark and capinfos.

Comments are read through contrib/wireshark/pypwru.lua, which is thereby tested as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scapy.utils import PcapReader

from tests.support.need import need
from tests.support.paths import TREE

SCRIPT = TREE / "contrib" / "wireshark" / "pypwru.lua"
AS_ROOT = 'Running as user "root" and group "root". This could be dangerous.\n'
"""What Debian's tshark prints for root only."""
SNAPLEN = 262144
"""The largest snaplen of libpcap."""


class Packet(NamedTuple):
    """A packet of a file of pypwru.

    Args:
        octets: what was captured.
        length: of the whole packet, in bytes.
        direction: of pcapng's epb_flags: 1 inbound, 2 outbound, 0 or None unknown.
        interface: its name.
        func, skb, netns, process, type: of the comment, as text.
    """

    octets: bytes
    length: int
    direction: int | None
    interface: str
    func: str
    skb: str
    netns: str
    process: str
    type: str


def run(*words: str | Path, cwd: Path | None = None) -> tuple[str, str]:
    """Return output and errors of a Wireshark program that must succeed."""
    need(shutil.which("tshark"), "tshark (package tshark)")
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.replace(AS_ROOT, "")


def tshark(file: Path, *words: str) -> str:
    """Return its output with pypwru.lua; it may not complain."""
    out, complaints = run("tshark", "-r", file, "-X", f"lua_script:{SCRIPT}", *words)
    assert complaints == ""
    return out


def check(file: Path) -> None:
    """Assert that capinfos and tshark read it without a complaint, and nothing is malformed."""
    _, complaints = run("capinfos", file)
    assert complaints == ""
    malformed = tshark(file, "-Y", "_ws.malformed")
    assert malformed == "", malformed


def octets(file: Path) -> list[bytes]:
    """Return the packets of a capture in any format."""
    return [packet.original for packet in _read(file)]


def packets(file: Path) -> list[Packet]:
    """Return those of a pcapng file of pypwru."""
    keys = ("frame.interface_name", *(f"pypwru.{key}" for key in Packet._fields[4:]))
    words = [word for key in keys for word in ("-e", key)]
    lines = tshark(file, "-T", "fields", *words).splitlines()
    return [
        Packet(packet.original, packet.wirelen, packet.direction, *line.split("\t"))
        for packet, line in zip(_read(file), lines, strict=True)
    ]


def _read(file: Path) -> Iterator[Any]:
    """Packets of scapy, whose ``original`` is what was captured."""
    if not file.stat().st_size:
        return
    with PcapReader(str(file)) as reader:
        while True:
            try:
                packet = reader.read_packet(SNAPLEN)  # iteration cuts at 65535
            except EOFError:
                return
            yield packet


def differences(ours: Sequence[bytes], theirs: Sequence[bytes]) -> list[str]:
    """Describe packets that only one side has, or more often; the order doesn't count."""
    left, right = Counter(ours), Counter(theirs)
    return [
        f"{side} {count} times: {len(packet)} bytes {packet[:80].hex()}"
        for side, found in (("ours", left - right), ("theirs", right - left))
        for packet, count in found.items()
    ]
