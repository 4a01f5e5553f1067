"""Compares two tracers' outputs of one invocation; pure.

Beside each other in one boot, both trace the same packets at the same addresses: lines are paired
packet by packet and must be equal to the byte, times apart. Against a recording of another boot,
packets are identified by their tuple, and what a boot decides (addresses, CPUs, processes, times,
inodes of namespaces) only has to have the same form; the order of functions counts where the kernel
is the recorded one and the flow is the same each time (``Invocation.steady``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from pypwru.config import Config
from tests.lab.parity.printed import Event, events

_TIMES = {"time", "timestamp"}
_OF_A_BOOT = _TIMES | {"skb", "cpu", "process", "netns", "cb", "mtu"}
_OF_A_BOOT |= {"stack", "skb_metadata", "skb_shared_info"}  # of JSON
# pwru 1.0.5 has reasons of one function alone, and as MTU the device's, not the route's.
_OF_OLD = _TIMES | {"mtu", "tail", "func"}


class Finding(NamedTuple):
    """One difference.

    Args:
        invocation: its name.
        what: ``status``, ``header``, ``missing`` (a line of pwru), ``extra`` (one of pypwru's),
            ``more`` (the lines behind a line), ``line`` (spaces), or the name of a field.
        theirs, own: the two values; of a line that only one has, it and an empty text.
        function: the function of the line.
        reference: ``live``, ``old`` for Debian's pwru 1.0.5, ``recorded``.
    """

    invocation: str
    what: str
    theirs: Any
    own: Any
    function: str = ""
    reference: str = "live"


def packet(event: Event) -> str:
    """Return what identifies its packet in the same boot; pwru has no address of XDP's."""
    if event.fields["func"].endswith("(xdp)") or int(event.skb, 16) == 0:
        return f"{event.function} {event.tuple}"
    return event.skb


def flow(event: Event) -> str:
    """Return what identifies its packet in another boot. Geneve's port is a hash of the flow's."""
    if isinstance(found := event.fields.get("tuple"), dict):
        return str([found.get(name) for name in ("saddr", "daddr", "proto", "flags")])
    return re.sub(r":\d+(->[\d.]+:6081)", r":*\1", event.tuple)


class Comparable(Protocol):
    """The part of an event by which events of two tracers are paired."""

    @property
    def function(self) -> str: ...
    @property
    def tuple(self) -> str: ...


AnyComparable = TypeVar("AnyComparable", bound=Comparable)


def _alike(one: Comparable, other: Comparable) -> int:
    """Return how alike two events are: the function must be equal, the tuple may."""
    return (one.function == other.function) * (1 + (one.tuple == other.tuple))


def paired(
    theirs: Sequence[AnyComparable], own: Sequence[AnyComparable]
) -> Iterator[tuple[AnyComparable | None, AnyComparable | None]]:
    """Pair events of one packet by their longest common subsequence; None has no counterpart."""
    longest = [[0] * (len(own) + 1) for _ in range(len(theirs) + 1)]
    for i in reversed(range(len(theirs))):
        for j in reversed(range(len(own))):
            alike = _alike(theirs[i], own[j])
            both = longest[i + 1][j + 1] + alike if alike else 0
            longest[i][j] = max(both, longest[i + 1][j], longest[i][j + 1])
    i = j = 0
    while i < len(theirs) and j < len(own):
        alike = _alike(theirs[i], own[j])
        if alike and longest[i][j] == longest[i + 1][j + 1] + alike:
            yield theirs[i], own[j]
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            yield theirs[i], None
            i += 1
        else:
            yield None, own[j]
            j += 1
    yield from ((event, None) for event in theirs[i:])
    yield from ((None, event) for event in own[j:])


def _grouped(found: Sequence[Event], key: Any) -> dict[str, list[Event]]:
    packets: dict[str, list[Event]] = {}
    for event in found:
        packets.setdefault(key(event), []).append(event)
    return packets


def pairs(
    theirs: Sequence[Event], own: Sequence[Event], key: Any
) -> list[tuple[Event | None, Event | None]]:
    """Pair all events of both, each packet's in its order."""
    first, second = _grouped(theirs, key), _grouped(own, key)
    return [
        pair
        for each in dict.fromkeys([*first, *second])
        for pair in paired(first.get(each, []), second.get(each, []))
    ]


def compare_live(name: str, config: Config, theirs: str, own: str, old: bool) -> list[Finding]:
    """Return findings between outputs of the same boot.

    Raises:
        UnknownForm: a line is of no known form.
    """
    reference = "old" if old else "live"
    rules = (_OF_OLD, _LOOSE_OLD) if old else (_TIMES, _LOOSE)
    their_header, their_events = events(theirs, config, old)
    own_header, own_events = events(own, config)
    found = []
    if their_header != own_header and not old:
        found.append(Finding(name, "header", their_header, own_header))
    both = pairs(their_events, own_events, packet)
    whole = all(one and other for one, other in both)
    cpus: defaultdict[str, set[object]] = defaultdict(set)  # the CPUs of each packet's events
    for event in own_events:
        cpus[packet(event)].add(event.fields.get("cpu"))
    for one, other in both:
        if not one or not other:
            found.append(_single(name, one, other, reference))
            continue
        differing = list(_fields(one, other, *rules))
        same_task = one.fields.get("process") == other.fields.get("process")
        exact = not old and not differing and whole and same_task
        if exact and _timeless(one) != _timeless(other):
            differing.append(("line", one.line, other.line))
        # Between the probes of the two the task may have gone to another CPU.
        differing = [
            each for each in differing if each[0] != "cpu" or each[1] not in cpus[packet(other)]
        ]
        if not old and list(one.more) != list(other.more):
            differing.append(("more", "\n".join(one.more), "\n".join(other.more)))
        found += [Finding(name, *values, other.function, reference) for values in differing]
    return found


def _single(name: str, theirs: Event | None, own: Event | None, reference: str) -> Finding:
    if theirs:
        return Finding(name, "missing", theirs.line, "", theirs.function, reference)
    assert own
    return Finding(name, "extra", "", own.line, own.function, reference)


def _fields(
    theirs: Event, own: Event, apart: set[str], loose: Mapping[str, Callable[[str], str]]
) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*theirs.fields, *own.fields]):
        one, other = theirs.fields.get(name), own.fields.get(name)
        if name in apart or one == other:
            continue
        if name in loose and loose[name](str(one)) == loose[name](str(other)):
            continue
        yield name, one, other


def _task(process: str) -> str:
    """Return program and pid. The path of a task that has just ended is gone, which is a race."""
    return re.sub(r"^.*/|^~", "", process)


def _number(named: str) -> str:
    """Return the pid or ifindex: pwru 1.0.5 has the task's name for the program's, and at times
    none.
    """
    return named.rpartition(":")[2]


_LOOSE = {"process": _task}
_LOOSE_OLD = {"process": _number, "iface": _number}


def _timeless(event: Event) -> str:
    line = event.line
    for name, width in (("time", 23), ("timestamp", 16)):
        if name in event.fields:
            line = line.replace(f"{event.fields[name]!s:<{width}}", name, 1)
    return line if line[0] != "{" else re.sub(r'("time":)("[^"]*"|\d+)', r"\1", line)


def compare_recorded(
    name: str, config: Config, theirs: str, own: str, steady: str
) -> list[Finding]:
    """Return findings between a recording and an output of another boot.

    Args:
        steady: a pattern of the flows whose lines have the same order in every boot.

    Raises:
        UnknownForm: a line is of no known form.
    """
    their_header, their_events = events(theirs, config)
    own_header, own_events = events(own, config)
    found = []
    if their_header != own_header:
        found.append(Finding(name, "header", their_header, own_header, "", "recorded"))
    if bool(their_events) != bool(own_events):
        found.append(Finding(name, "events", len(their_events), len(own_events), "", "recorded"))
    columns = [
        {field for event in each for field in event.fields} for each in (their_events, own_events)
    ]
    if their_events and own_events:
        for field in sorted(columns[0] ^ columns[1]):
            theirs_has, own_has = (field if field in each else None for each in columns)
            found.append(Finding(name, field, theirs_has, own_has, "", "recorded"))
    their_same, own_same = (
        [event for event in each if re.search(steady, flow(event))]
        for each in (their_events, own_events)
    )
    namespaces: dict[Any, Any] = {}
    for one, other in pairs(their_same, own_same, flow):
        if not one or not other:
            found.append(_single(name, one, other, "recorded"))
            continue
        differing = list(_fields(_of_no_boot(one), _of_no_boot(other), _OF_A_BOOT, _LOOSE))
        inode = other.fields.get("netns")
        if namespaces.setdefault(one.fields.get("netns"), inode) != inode:
            differing.append(("netns", one.fields.get("netns"), inode))
        if one.more[:1] != other.more[:1] or bool(one.more[1:]) != bool(other.more[1:]):
            differing.append(("more", "\n".join(one.more), "\n".join(other.more)))
        found += [Finding(name, *values, other.function, "recorded") for values in differing]
    return found


def _of_no_boot(event: Event) -> Event:
    fields: Mapping[str, Any] = {**event.fields, "tuple": flow(event)}
    return event.__class__(fields, event.line, event.more)
