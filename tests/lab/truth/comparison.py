"""Events of pypwru and counters of rules beside the kernel's records; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.lab.truth.records import NO_IP, Record
from tests.lab.truth.rulesets import TRACING

Counted = Sequence[tuple[str, int, int]]  # chain, handle, packets


class Verdict(NamedTuple):
    """What a comparison came to.

    Args:
        compared: records, or counters.
        mismatches: in words; cut short where one shifts all that follow.
    """

    compared: int
    mismatches: list[str]


def event_record(event: Mapping[str, Any]) -> Record:
    """The same of an object of pypwru's JSON, of type ``nft_rule``."""
    nft, addresses = event["nft"], event.get("tuple", {})
    chain = f"{nft['family']} {nft['table']} {nft['chain']}"
    if "policy" in nft:
        said = f"policy {nft['policy']}"
    elif "rule_handle" in nft:
        target = f" {nft['target']}" if "target" in nft else ""
        said = f"handle {nft['rule_handle']} {nft['verdict']}{target}"
    else:
        said = nft["verdict"]
    pair = [addresses[key].strip("[]") for key in ("saddr", "daddr") if key in addresses]
    return Record(chain, said, " > ".join(pair) or NO_IP, int(event["skb"], 16))


def untraced(records: Iterable[Record]) -> list[Record]:
    """Those that are not of the rules that set ``nftrace``."""
    return [record for record in records if record.chain.split()[1] != TRACING]


def word(record: Record) -> str:
    """What was said, without by which rule: ``jump``, ``policy drop``, ..."""
    return record.said.split()[2] if record.said.startswith("handle ") else record.said


def deciding(records: Iterable[Record]) -> list[Record]:
    """Those of rules that gave a verdict, and of policies."""
    return [
        record
        for record in records
        if record.said.startswith("policy ")
        or (record.said.startswith("handle ") and not record.said.endswith(" continue"))
    ]


def compare(kernel: Sequence[Record], seen: Sequence[Record]) -> Verdict:
    """In the same order, rule for rule, of the same packets."""
    found = []
    for at, (told, event) in enumerate(zip(kernel, seen, strict=False)):
        same = told.chain == event.chain and told.said == event.said
        if not same or (told.flow and told.flow != event.flow):
            found.append(f"record {at}: kernel {_words(told)}; pypwru {_words(event)}")
        elif at and not told.flow and _split(kernel[at - 1 : at + 1], seen[at - 1 : at + 1]):
            found.append(f"record {at}: {_words(told)}: pypwru has it of another packet")
    if len(kernel) != len(seen):
        found.append(f"kernel has {len(kernel)} records, pypwru {len(seen)}")
    return Verdict(len(kernel), found)


def _words(record: Record) -> str:
    return f"{record.chain}: {record.said} ({record.flow or '...'})"


def _split(kernel: Sequence[Record], seen: Sequence[Record]) -> bool:
    """Whether two records of one packet are of two; the second is of a chain that it was in."""
    packets, skbs = ({record.packet for record in pair} for pair in (kernel, seen))
    return len(packets) == 1 and len(skbs) == 2


def compare_counts(counted: Counted, records: Iterable[Record]) -> Verdict:
    """Each rule's counter is the number of records of it."""
    of_rules = Counter(
        (record.chain, int(record.said.split()[1]))
        for record in records
        if record.said.startswith("handle ")
    )
    found = [
        f"{chain}: handle {handle} counted {packets}, records {of_rules[chain, handle]}"
        for chain, handle, packets in counted
        if of_rules[chain, handle] != packets
    ]
    return Verdict(len(counted), found)


def misplaced(events: Iterable[Mapping[str, Any]], bases: Mapping[str, tuple[str, int]]) -> Verdict:
    """Each event's path begins at the base chain of its hook and priority and ends at its chain.

    Args:
        bases: base chain (family, table and name) to hook and priority.
    """
    found, compared = [], 0
    for event in events:
        nft = event["nft"]
        path, compared = nft["path"], compared + 1
        base = bases.get(f"{nft['family']} {nft['table']} {path[0]}")
        if base != (nft["hook"], nft["priority"]):
            found.append(f"{path[0]} is on {base}, pypwru has {nft['hook']} {nft['priority']}")
        if path[-1] != nft["chain"] or len(path) != nft["depth"] + 1:
            found.append(f"{nft['chain']}, {nft['depth']} deep, pypwru has by {path}")
    return Verdict(compared, found)
