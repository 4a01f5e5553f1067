"""The oracle of --output-ct: the kernel's list of connections, as conntrack(8) prints it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.support.need import need

Tuple = Mapping[str, Any]
Objects = Iterable[Mapping[str, Any]]

_PAIR = re.compile(r"(\w+)=(\S+)")
_ICMP = (1, 58)
_GRE = {"srckey": "sport", "dstkey": "dport"}


class Entry(NamedTuple):
    """A connection; its tuples as --output-json writes them."""

    original: Tuple
    reply: Tuple
    zone: int
    mark: int
    assured: bool


def listing(namespace: str) -> list[str]:
    """Return the lines of a network namespace's connections, of IPv4 and IPv6."""
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


def _parse_tuple(pairs: Sequence[tuple[str, str]], protocol: int) -> Tuple:
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
    """Parse ``ipv4 2 tcp 6 119 TIME_WAIT src=1.2.3.4 ... src=... [ASSURED] mark=0 zone=7``."""
    protocol = int(line.split()[3])
    pairs = _PAIR.findall(line)
    first, second, end = [index for index, (name, _) in enumerate(pairs) if name == "src"] + [
        index for index, (name, _) in enumerate(pairs) if name in ("mark", "zone", "use")
    ][:1]
    more = {name: int(value) for name, value in pairs[end:] if value.isdigit()}
    return Entry(
        _parse_tuple(pairs[first:second], protocol),
        _parse_tuple(pairs[second:end], protocol),
        more.get("zone", 0),
        more.get("mark", 0),
        "[ASSURED]" in line,
    )


def _reply_tuple(original: Tuple) -> Tuple:
    """Return the tuple of a reply where there is no NAT, without fields of ICMP."""
    forward, reverse = ("saddr", "daddr", "sport", "dport"), ("daddr", "saddr", "dport", "sport")
    return {name: original[other] for name, other in zip(forward, reverse, strict=True)}


def _address_of(tuple_: Tuple, which: str) -> tuple[str, int]:
    return tuple_[f"{which}addr"], tuple_[f"{which}port"]


def mismatches(events: Objects, lines: Iterable[str]) -> list[str]:
    """Describe events of connections that differ from conntrack's list.

    A connection is in the list once it is confirmed; before that rules may still rewrite and mark
    it.

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
        if not any(_is_equal(ct, one) for one in same):
            wrong.append(f"{event['func']}: {ct} is none of {same or entries}")
    return wrong


def _is_equal(ct: Mapping[str, Any], listed: Entry) -> bool:
    status = set(ct["status"])
    if "confirmed" not in status:
        not_yet = _reply_tuple(ct["original"]).items() <= ct["reply"].items()
        return (not_yet or ct["reply"] == listed.reply) and ct["mark"] in (0, listed.mark)
    natted = {
        "dnat": _address_of(listed.reply, "s") != _address_of(listed.original, "d"),
        "snat": _address_of(listed.reply, "d") != _address_of(listed.original, "s"),
    }
    return (
        ct["reply"] == listed.reply
        and ct["mark"] == listed.mark
        and {word for word, is_so in natted.items() if is_so} == status & set(natted)
        and ("assured" not in status or listed.assured)
    )
