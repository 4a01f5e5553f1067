"""A storm of names that change (storm.c), and a check of pypwru's names by the storm's log."""

from __future__ import annotations

import bisect
import ipaddress
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("storm.c")
FOLDERS = 8
FLAGS = ("--output-json", "--timestamp=absolute", "--output-netns-names")
PROCESSES, NAMESPACES, RENAMES = (
    ipaddress.IPv4Network(f"127.{number}.0.0/10") for number in (64, 128, 192)
)
_SHOWN = 16  # bytes of a name, of which the first is a ~ where it is cut
_SLACK = 1_000_000  # ns that a handler may need from the time that it writes to the names

Row = Mapping[str, Any]
Network = ipaddress.IPv4Network


def filter_of(network: Network) -> str:
    return f"udp and dst net {network}"


def programs(folder: Path) -> list[Path]:
    """The storm, and the programs of one name that it starts."""
    return [folder / "storm", *(folder / str(number) / "ns" for number in range(FOLDERS))]


def build(folder: Path) -> list[Path]:
    """Compile it once, and copy it to each folder of FOLDERS, as different programs."""
    made, *others = programs(folder)
    words = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(made), str(SOURCE)]
    subprocess.run([*words, "-lpthread"], check=True)
    for program in others:
        program.parent.mkdir()
        program.write_bytes(made.read_bytes())
        program.chmod(0o755)
    return [made, *others]


@dataclass
class NameCheck:
    """The result of a check.

    Args:
        right: names equal to that of the log.
        unknown: names that pypwru printed as unknown.
        wrong: events with another name, each with the expected ones.
    """

    right: int = 0
    unknown: int = 0
    wrong: list[tuple[str, Row]] = field(default_factory=list)
    packets: set[int] = field(default_factory=set)

    def count(
        self, name: object, known: Iterable[object], unknown: Iterable[object], row: Row
    ) -> None:
        if name in (known := {*known}):
            self.right += 1
        elif name in {*unknown}:
            self.unknown += 1
        else:
            self.wrong.append((f"{name!r} is one of {sorted(map(str, known))}", row))

    def __str__(self) -> str:
        return (
            f"{len(self.packets)} packets; names: {self.right} right, {self.unknown} unknown, "
            f"{len(self.wrong)} wrong"
        )


def _lines(log: Path) -> dict[str, list[list[str]]]:
    found = defaultdict(list)
    for line in log.read_text().splitlines():
        word, *rest = line.split(" ")
        found[word].append(rest)
    return found


def _cut(text: str) -> str:
    octets = os.fsencode(text)
    return text if len(octets) <= _SHOWN else "~" + os.fsdecode(octets[1 - _SHOWN :])


def _sequence(row: Row) -> int:
    return int(ipaddress.ip_address(row["tuple"]["daddr"])) & 0x3FFFFF


@dataclass
class _ProcessLifetime:
    """One process of a pid, from fork to exit."""

    begin: int
    end: int
    tasks: list[tuple[int, int, str, str]] = field(default_factory=list)
    """(start, end, the task's name, its program), ns."""

    def at(self, time: int) -> list[tuple[str, str]]:
        """Return the names that it may have had, within _SLACK."""
        return [
            (comm, program)
            for since, until, comm, program in self.tasks
            if since <= time + _SLACK and time <= until
        ]


def _process_lifetimes(log: Path, parent: tuple[str, str]) -> dict[int, list[_ProcessLifetime]]:
    """Map each pid to its processes, in order."""
    lines = _lines(log)
    begun: dict[int, list[int]] = defaultdict(list)
    ended: dict[int, list[int]] = defaultdict(list)
    for time, pid in lines["fork"]:
        begun[int(pid)].append(int(time))
    for time, pid in lines["reap"]:
        ended[int(pid)].append(int(time))
    lifetimes = {
        pid: [
            _ProcessLifetime(*both)
            for both in zip(sorted(begun[pid]), sorted(ended[pid]), strict=True)
        ]
        for pid in begun
    }
    moments = [
        *((int(time), int(pid), comm, program) for time, pid, _, comm, program in lines["send"]),
        *((int(time), int(pid), "", "") for time, pid in lines["leave"]),
    ]
    by_pid: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
    for moment, number, comm, program in sorted(moments):
        by_pid[number].append((moment, comm, program))
    for number, found in lifetimes.items():
        times = [moment for moment, _, _ in by_pid[number]]
        for lifetime in found:
            first, last = bisect.bisect(times, lifetime.begin), bisect.bisect(times, lifetime.end)
            _fill(lifetime, by_pid[number][first:last], parent)
    return lifetimes


def _fill(
    lifetime: _ProcessLifetime, own: Sequence[tuple[int, str, str]], parent: tuple[str, str]
) -> None:
    """Between ``leave`` and the next ``send`` it is either; so it is before its first one."""
    sends = [one for one in own if one[1]]
    leaves = [time for time, comm, _ in own if not comm]
    if sends:
        lifetime.tasks.append((lifetime.begin, sends[0][0], *parent))
    since = lifetime.begin
    for index, (time, comm, program) in enumerate(sends):
        until = sends[index + 1][0] if index + 1 < len(sends) else lifetime.end
        lifetime.tasks.append((since, until, comm, program))
        since = next((leave for leave in leaves if leave > time), until)


def check_processes(rows: Sequence[Row], log: Path, storm: Path) -> NameCheck:
    """Check each event in the context of a process of the storm, whichever packet it is of."""
    result = NameCheck()
    lifetimes = _process_lifetimes(log, ("storm", str(storm)))
    for row in rows:
        result.packets.add(_sequence(row))
        _, _, pid = row["process"].rpartition(":")
        time, found = row["timestamp"], lifetimes.get(int(pid), [])
        index = bisect.bisect_right([lifetime.begin for lifetime in found], time) - 1
        if index < 0 or time > found[index].end:
            continue  # a process that is not of the storm
        tasks = found[index].at(time)
        result.count(
            row["process"],
            [_cut(f"{program}:{pid}") for _, program in tasks],
            [_cut(f"{comm}:{pid}") for comm, _ in tasks],
            row,
        )
    return result


def check_namespaces(rows: Sequence[Row], log: Path) -> NameCheck:
    """Check by the packet's address, which is of one namespace."""
    result = NameCheck()
    known = {int(line[1]): line for line in _lines(log)["namespace"]}
    for row in rows:
        result.packets.add(number := _sequence(row))
        _, _, inode, name, index, device = known[number]
        result.count(row["netns"], [int(inode)], [0], row)
        result.count(row.get("netns_name"), [name], [None], row)
        result.count(row["iface"], [f"{device}:{index}"], ["0"], row)
    return result


def check_renames(rows: Sequence[Row], log: Path) -> NameCheck:
    """Check by the time, within the rename itself."""
    result = NameCheck()
    renames = [(int(before), int(after), name) for before, after, name in _lines(log)["rename"]]
    names = [("lo", 0)] + [(name, before) for before, _, name in renames]
    ends = [after for _, after, _ in renames] + [1 << 63]
    for row in rows:
        result.packets.add(_sequence(row))
        time = row["timestamp"]
        index = bisect.bisect_right(ends, time)
        known = {names[index][0]} | {
            name for name, since in names[index : index + 3] if since <= time + _SLACK
        }
        result.count(row["iface"], [f"{name}:1" for name in known], ["0"], row)
    return result
