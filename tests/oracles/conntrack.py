"""What judges --output-ct: the kernel's own list of connections, as conntrack(8) prints it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.support.need import need

Ends = Mapping[str, Any]
Objects = Iterable[Mapping[str, Any]]

_PAIR = re.compile(r"(\w+)=(\S+)")
_ICMP = (1, 58)
_GRE = {"srckey": "sport", "dstkey": "dport"}


class Entry(NamedTuple):
    """A connection; its tuples as --output-json writes them."""

    original: Ends
    reply: Ends
    zone: int
    mark: int
    assured: bool


def listing(namespace: str) -> list[str]:
    """The lines of a network namespace's connections, of IPv4 and IPv6."""
    need(shutil.which("conntrack"), "conntrack (package conntrack)")
    return [
        line
        for family in ("ipv4", "ipv6")
        for line in subprocess.run(
            f"ip netns exec {namespace} conntrack -L -o extended -f {family}".split(),
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    ]


def _ends(pairs: Sequence[tuple[str, str]], protocol: int) -> Ends:
    numbers = {
        _GRE.get(name, name): int(value, 0) for name, value in pairs if name not in ("src", "dst")
    }
    source, destination = (
        f"[{value}]" if ":" in value else value for name, value in pairs if name in ("src", "dst")
    )
    ports = {name: numbers.get(name, 0) for name in ("sport", "dport")}
    found = {"saddr": source, "daddr": destination, **ports, "proto": protocol}
    if protocol not in _ICMP:
        return found
    return found | {"icmp": {name: numbers[name] for name in ("type", "code", "id")}}


def entry(line: str) -> Entry:
    """``ipv4 2 tcp 6 119 TIME_WAIT src=1.2.3.4 ... src=... [ASSURED] mark=0 zone=7 use=1``."""
    protocol = int(line.split()[3])
    pairs = _PAIR.findall(line)
    first, second, end = [index for index, (name, _) in enumerate(pairs) if name == "src"] + [
        index for index, (name, _) in enumerate(pairs) if name in ("mark", "zone", "use")
    ][:1]
    more = {name: int(value) for name, value in pairs[end:] if value.isdigit()}
    return Entry(
        _ends(pairs[first:second], protocol),
        _ends(pairs[second:end], protocol),
        more.get("zone", 0),
        more.get("mark", 0),
        "[ASSURED]" in line,
    )


def _inverse(ends: Ends) -> Ends:
    """The ends of an answer where there is no NAT, without what ICMP answers with."""
    there, back = ("saddr", "daddr", "sport", "dport"), ("daddr", "saddr", "dport", "sport")
    return {name: ends[other] for name, other in zip(there, back, strict=True)}


def _end(ends: Ends, which: str) -> tuple[str, int]:
    return ends[f"{which}addr"], ends[f"{which}port"]


def mismatches(events: Objects, lines: Iterable[str]) -> list[str]:
    """What conntrack says otherwise of the events of connections.

    One is in the list once it is confirmed; before that rules may still rewrite and mark it.

    Args:
        events: objects of --output-json, all of them of one namespace.
        lines: the list, of after the last event.
    """
    entries = [entry(line) for line in lines]
    wrong = []
    for event in events:
        ct = event.get("ct", {})
        if "original" not in ct:
            continue
        same = [one for one in entries if (one.original, one.zone) == (ct["original"], ct["zone"])]
        if not any(_agree(ct, one) for one in same):
            wrong.append(f"{event['func']}: {ct} is none of {same or entries}")
    return wrong


def _agree(ct: Mapping[str, Any], known: Entry) -> bool:
    status = set(ct["status"])
    if "confirmed" not in status:
        not_yet = _inverse(ct["original"]).items() <= ct["reply"].items()
        return (not_yet or ct["reply"] == known.reply) and ct["mark"] in (0, known.mark)
    natted = {
        "dnat": _end(known.reply, "s") != _end(known.original, "d"),
        "snat": _end(known.reply, "d") != _end(known.original, "s"),
    }
    return (
        ct["reply"] == known.reply
        and ct["mark"] == known.mark
        and {word for word, is_so in natted.items() if is_so} == status & set(natted)
        and ("assured" not in status or known.assured)
    )
