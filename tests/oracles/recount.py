"""Sums over the lines of --output-json, by plain dicts: the oracle of statistics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator

Line = dict[str, Any]
Hops = dict[tuple[str, str], list[int]]
"""(from, to) -> [count, total ns, longest ns]."""
_NEST = 10_000_000  # ns
_NFT = ("nft_rule", "nft_chain")


def recount(lines: Sequence[Line]) -> dict[str, Any]:
    """Count objects with --timestamp current and --output-caller, in their order."""
    times = defaultdict(list)
    flows = set()
    packets = packet_ids(lines)
    for line, packet in zip(lines, packets, strict=True):
        times[packet].append(line["time"])
        ends = line["tuple"]
        if ends:
            pair = frozenset(((ends["saddr"], ends["sport"]), (ends["daddr"], ends["dport"])))
            flows.add((pair, ends["proto"]))
    return {
        "events": len(lines),
        "packets": len(times),
        "flows": len(flows),
        "functions": Counter(line["func"] for line in lines),
        "drops": drops(lines),
        "nft_rules": Counter(rule(line["nft"]) for line in lines if line["type"] == "nft_rule"),
        "latency": latency([max(each) - min(each) for each in times.values()]),
        "hops": hops(lines, packets),
    }


def packet_ids(lines: Sequence[Line]) -> list[int]:
    """Return the packet_id of each line; one without (an nft event of a packet that the rule has
    freed) has that of the last line at its address.
    """
    last: dict[str, int] = {}
    found = []
    for number, line in enumerate(lines, 1):
        earlier = last.get(line["skb"], -number)
        found.append(line.get("packet_id", earlier))
        last[line["skb"]] = found[-1]
    return found


def rule(nft: Line) -> tuple[Any, ...]:
    keys = ("family", "table", "chain", "rule_handle", "verdict", "text")
    return ("policy" in nft, *map(nft.get, keys))


def latency(taken: list[int]) -> dict[str, Any]:
    taken.sort()
    ranks = {}
    for percent in (50, 90, 99):
        rank = next(n for n in range(1, len(taken) + 1) if 100 * n >= percent * len(taken))
        ranks[f"p{percent}_ns"] = taken[rank - 1]
    return {"packets": len(taken), "exact": True, **ranks, "max_ns": taken[-1]}


def hops(lines: Sequence[Line], packets: Sequence[int]) -> Hops:
    """Collect from a line of an sk_buff to its next, unless another sk_buff of its packet was freed
    in between.
    """
    last: dict[str, tuple[Line, int]] = {}
    first: dict[str, int] = {}  # time of the sk_buff's first line
    freed_first_times: dict[int, int] = {}  # packet -> the greatest of those that were freed
    taken = defaultdict(list)
    for line, packet in zip(lines, packets, strict=True):
        skb = line["skb"]
        before, its = last.get(skb, (line, 0))
        is_known = its == packet and (line["type"] in _NFT or not is_freed(before))
        if not is_known:
            first[skb] = line["time"]
        elif freed_first_times.get(packet, 0) <= before["time"]:
            ends = before["func"], line["func"]
            taken[ends].append(max(line["time"] - before["time"], 0))
        last[skb] = line, packet
        if is_freed(line):
            freed_first_times[packet] = max(freed_first_times.get(packet, 0), first[skb])
    return summed(taken)


def bounds(lines: Sequence[Line]) -> tuple[Hops, Hops]:
    """Return the least and the most that hops can be, where lines have no frees: those of packets
    that were one sk_buff all along; and all, the time between two sk_buffs at one address included.
    """
    packets = packet_ids(lines)
    addresses = defaultdict(set)
    for line, packet in zip(lines, packets, strict=True):
        addresses[packet].add(line["skb"])
    last: dict[str, tuple[Line, int]] = {}
    least, most = defaultdict(list), defaultdict(list)
    released = set()
    for line, packet in zip(lines, packets, strict=True):
        before, its = last.get(line["skb"], (line, 0))
        if its == packet:
            ends, took = (before["func"], line["func"]), max(line["time"] - before["time"], 0)
            most[ends].append(took)
            if len(addresses[packet]) == 1 and packet not in released:
                least[ends].append(took)
        last[line["skb"]] = line, packet
        if line["func"] == "skb_release_data":
            released.add(packet)
    return summed(least), summed(most)


def summed(taken: Mapping[tuple[str, str], Sequence[int]]) -> Hops:
    return {ends: [len(each), sum(each), max(each)] for ends, each in taken.items()}


def is_freed(line: Line) -> bool:
    """Return whether only nft events can follow a line of its sk_buff."""
    return line["func"].partition("(")[0] in ("kfree_skbmem", "tp:consume_skb", "tp:kfree_skb")


def drops(lines: Sequence[Line]) -> dict[str, list[int]]:
    """Map reasons to [drops, events]: functions that are called to drop one packet are one drop."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    nests: dict[str, tuple[Line, set[str]]] = {}
    for line in lines:
        if line["type"] != "drop":
            continue
        name, _, reason = line["func"].rstrip(")").partition("(")
        first, names = nests.get(line["skb"], (None, set()))
        is_inner = (
            first is not None
            and all(first[key] == line[key] for key in ("cpu", "process"))
            and first["func"].partition("(")[2] == line["func"].partition("(")[2]
            and line["time"] - first["time"] < _NEST
            and name not in names
        )
        if is_inner:
            names.add(name)
        else:
            nests[line["skb"]] = line, {name}
        row = found[reason]
        row[0] += not is_inner
        row[1] += 1
    return dict(found)


def located(lines: Sequence[Line]) -> Counter[tuple[str, str]]:
    """Count drops by reason and location, of lines with --drops."""
    where = [line for line in lines if "location" in line]
    return Counter((line["func"].rstrip(")").partition("(")[2], line["location"]) for line in where)


def document_locations(document: Line) -> Counter[tuple[str, str]]:
    """Return the same counts of a document."""
    rows = [row for row in document["drops"] if row["drops"]]
    return Counter({(row["reason"] or "", row["location"]): row["drops"] for row in rows})


def document_counts(document: Line) -> dict[str, Any]:
    """Return a document of --stats-file in the form of ``recount``, without locations and
    namespaces.
    """
    rules: Counter[tuple[Any, ...]] = Counter()
    for row in document["nft_rules"]:
        keys = ("policy", "family", "table", "chain", "handle", "verdict", "text")
        rules[tuple(row[key] for key in keys)] += row["events"]
    reasons: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in document["drops"]:
        reason = reasons[row["reason"] or ""]
        reason[0] += row["drops"]
        reason[1] += row["events"]
    return {
        **{key: document[key] for key in ("events", "packets", "flows", "latency")},
        "functions": Counter({row["function"]: row["hits"] for row in document["functions"]}),
        "drops": dict(reasons),
        "nft_rules": rules,
        "hops": {
            (row["from"], row["to"]): [row["times"], row["total_ns"], row["max_ns"]]
            for row in document["hops"]
        },
    }


def validate(schema: Line, document: Line) -> None:
    Draft202012Validator(schema).validate(document)
