"""Compares events of pypwru and counters of rules with the kernel's records; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.lab.truth.records import NO_IP, Record
from tests.lab.truth.rulesets import TRACING

Counted = Sequence[tuple[str, int, int]]  # chain, handle, packets


class Comparison(NamedTuple):
    """The result of a comparison.

    Args:
        compared: records, or counters.
        mismatches: descriptions; cut short where one shifts all that follow.
    """

    compared: int
    mismatches: list[str]


def event_record(event: Mapping[str, Any]) -> Record:
    """Convert an object of pypwru's JSON, of type ``nft_rule``, to a record."""
    nft, addresses = event["nft"], event.get("tuple", {})
    chain = f"{nft['family']} {nft['table']} {nft['chain']}"
    if "policy" in nft:
        decision = f"policy {nft['policy']}"
    elif "rule_handle" in nft:
        target = f" {nft['target']}" if "target" in nft else ""
        decision = f"handle {nft['rule_handle']} {nft['verdict']}{target}"
    else:
        decision = nft["verdict"]
    pair = [addresses[key].strip("[]") for key in ("saddr", "daddr") if key in addresses]
    return Record(chain, decision, " > ".join(pair) or NO_IP, int(event["skb"], 16))


def untraced(records: Iterable[Record]) -> list[Record]:
    """Return records that are not of the rules that set ``nftrace``."""
    return [record for record in records if record.chain.split()[1] != TRACING]


def verdict_name(record: Record) -> str:
    """Return the verdict, without the rule's handle: ``jump``, ``policy drop``, ..."""
    return record.decision.split()[2] if record.decision.startswith("handle ") else record.decision


def deciding(records: Iterable[Record]) -> list[Record]:
    """Return records of rules that set a verdict, and of policies."""
    return [
        record
        for record in records
        if record.decision.startswith("policy ")
        or (record.decision.startswith("handle ") and not record.decision.endswith(" continue"))
    ]


def compare(kernel: Sequence[Record], pypwru: Sequence[Record]) -> Comparison:
    """Compare records in their order, rule for rule, of the same packets."""
    found = []
    for at, (expected, event) in enumerate(zip(kernel, pypwru, strict=False)):
        same = expected.chain == event.chain and expected.decision == event.decision
        if not same or (expected.flow and expected.flow != event.flow):
            found.append(f"record {at}: kernel {_describe(expected)}; pypwru {_describe(event)}")
        elif (
            at and not expected.flow and _is_split(kernel[at - 1 : at + 1], pypwru[at - 1 : at + 1])
        ):
            found.append(f"record {at}: {_describe(expected)}: pypwru has it of another packet")
    if len(kernel) != len(pypwru):
        found.append(f"kernel has {len(kernel)} records, pypwru {len(pypwru)}")
    return Comparison(len(kernel), found)


def _describe(record: Record) -> str:
    return f"{record.chain}: {record.decision} ({record.flow or '...'})"


def _is_split(kernel: Sequence[Record], seen: Sequence[Record]) -> bool:
    """Return whether two records of one packet are of two; the second is of a chain that it
    was in.
    """
    packets, skbs = ({record.packet for record in pair} for pair in (kernel, seen))
    return len(packets) == 1 and len(skbs) == 2


def compare_counts(counted: Counted, records: Iterable[Record]) -> Comparison:
    """Compare each rule's counter with the number of its records."""
    of_rules = Counter(
        (record.chain, int(record.decision.split()[1]))
        for record in records
        if record.decision.startswith("handle ")
    )
    found = [
        f"{chain}: handle {handle} counted {packets}, records {of_rules[chain, handle]}"
        for chain, handle, packets in counted
        if of_rules[chain, handle] != packets
    ]
    return Comparison(len(counted), found)


def misplaced(
    events: Iterable[Mapping[str, Any]], bases: Mapping[str, tuple[str, int]]
) -> Comparison:
    """Check that each event's path begins at the base chain of its hook and priority and ends at
    its chain.

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
    return Comparison(compared, found)
