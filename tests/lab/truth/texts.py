"""Texts of rules by nft's own listings, compared with those of pypwru's events: pure.

A listing's strings are not escaped. Those of several lines are found by the ruleset's file, which
has them between quotes, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tests.lab.truth.records import Record

Handle = tuple[str, str, int]
"""Family and table, handle of the rule."""
Bound = tuple[str, str, str]
"""Family and table, the kernel's name of a chain that is bound to a rule."""
_STRING = re.compile(r'"([^"]*)"')
_TABLE = re.compile(r"table (\w+) (\S+) \{ # handle \d+.*")
_RULE = re.compile(r"\t\t(.*) # handle (\d+)")
_BLOCK = re.compile(r"\t\t.*(?:jump|goto) \{")
_SET = re.compile(r"\{ ([^{}]*) \}")
_LONG = 200  # characters of a set's elements; more are shown as their number
_OF_RULE = re.compile(r"(\w+) (\S+) (\S+) (\d+)(?: \d+)? ?")
_TO_BLOCK = re.compile(r".*\[ immediate reg 0 (?:jump|goto) -> (__chain\d+) \]")
_TRACED = re.compile(
    r"trace id \w+ (\w+) (\S+) \S+ rule (.*?) # handle (\d+) \(verdict [^)\n]*\)$", re.S | re.M
)


class Blocks(NamedTuple):
    """Chains that are bound to rules.

    Args:
        names: to the name that pypwru has: ``input#5``.
        rules: handles of the chain's rules, in their order.
        owners: the rule that a chain is bound to, to the chain.
    """

    names: Mapping[Bound, str]
    rules: Mapping[Bound, list[int]]
    owners: Mapping[Handle, Bound]


def blocks(debugged: str) -> Blocks:
    """Parse the output of ``nft --debug=netlink list ruleset``."""
    names: dict[Bound, str] = {}
    rules: dict[Bound, list[int]] = {}
    owners: dict[Handle, Bound] = {}
    family = table = chain = handle = ""
    for line in debugged.splitlines():
        if of_rule := _OF_RULE.fullmatch(line):
            family, table, chain, handle = of_rule.groups()
            if chain.startswith("__chain"):
                rules.setdefault((family, table, chain), []).append(int(handle))
        elif (to := _TO_BLOCK.fullmatch(line)) and handle:
            block = family, table, to[1]
            names[block] = f"{chain}#{handle}"
            owners[family, table, int(handle)] = block
    return Blocks(names, rules, owners)


def join_strings(listing: str, file: str) -> str:
    """Return a listing in which the strings of several lines that are in the file are of one."""
    strings = {each for each in _STRING.findall(file) if "\n" in each}
    for each in sorted(strings, key=len, reverse=True):
        one_line = each.replace("\n", r"\n").replace("\t", r"\t")
        listing = listing.replace(f'"{each}"', f'"{one_line}"')
    return listing


def shown(text: str) -> str:
    """Return a rule's text, as docs/nftables.md: on one line, long sets by their numbers of
    elements.
    """

    def elided(found: re.Match[str]) -> str:
        elements = _STRING.sub("", found[1])
        return found[0] if len(found[1]) <= _LONG else f"{{ {elements.count(',') + 1} elements }}"

    return _SET.sub(elided, text)


def listed(listing: str, file: str, bound: Blocks) -> dict[Handle, str]:
    """Return the text of each rule, as pypwru prints it, in the output of ``nft -a -s list
    ruleset``.
    """
    found: dict[Handle, str] = {}
    family = table = ""
    lines = iter(join_strings(listing, file).splitlines())
    for line in lines:
        if begins := _TABLE.fullmatch(line):
            family, table = begins.groups()
        if _BLOCK.fullmatch(line):
            inner, last, number = _block(lines)
            handle = family, table, int(number)
            found[handle] = shown(" ".join([line[2:], *(f"{each};" for each in inner), last]))
            block = bound.owners[handle]
            for own, text in zip(bound.rules[block], inner, strict=True):
                found[family, table, own] = shown(text)
        elif rule := _RULE.fullmatch(line):
            found[family, table, int(rule[2])] = shown(rule[1])
    return found


def _block(lines: Iterator[str]) -> tuple[list[str], str, str]:
    """Return the rules of a block, and text and handle of its last line."""
    inner = []
    for line in lines:
        if line.startswith("\t\t\t"):
            inner.append(line[3:])
        elif last := _RULE.fullmatch(line):
            return inner, last[1], last[2]
    raise ValueError("a block that doesn't end")


def saved(saved_rules: str, objects: Iterable[Mapping[str, Any]]) -> dict[Handle, str]:
    """Return the text of each rule that has a match or target of iptables.

    Args:
        saved_rules: output of ``iptables-nft-save`` and its like of one family, all tables.
        objects: of ``nft -j -a list ruleset``, of the same family.
    """
    lines: dict[tuple[str, str], list[str]] = {}
    table = ""
    for line in saved_rules.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            lines.setdefault((table, line.split(" ")[1]), []).append(line)
    found: dict[Handle, str] = {}
    at: dict[tuple[str, str], int] = {}
    for rule in (each["rule"] for each in objects if "rule" in each):
        chain = rule["table"], rule["chain"]
        at[chain] = at.get(chain, -1) + 1
        if any("xt" in expression for expression in rule["expr"]):
            found[rule["family"], rule["table"], rule["handle"]] = lines[chain][at[chain]]
    return found


def monitored(text: str, file: str) -> Iterator[tuple[Handle, str]]:
    """Yield each rule of ``nft -a -s monitor trace``, and its text, as pypwru prints it."""
    for family, table, rule, handle in _TRACED.findall(join_strings(text, file)):
        lines = rule.split("\n")
        inner = [f"{line.strip()};" for line in lines[1:-1]]
        one = " ".join([lines[0], *inner, lines[-1].strip()]) if len(lines) > 1 else rule
        yield (family, table, int(handle)), shown(one)


def name_chains(records: Iterable[Record], bound: Blocks) -> Iterator[Record]:
    """Yield records with pypwru's names of chains that are bound to rules."""
    for record in records:
        family, table, chain = record.chain.split()
        chain = bound.names.get((family, table, chain), chain)
        verb, _, target = record.decision.rpartition(" ")
        target = bound.names.get((family, table, target), target)
        yield record._replace(
            chain=f"{family} {table} {chain}",
            decision=f"{verb} {target}".strip() if verb else target,
        )


class TextComparison(NamedTuple):
    """The comparison of the events' texts.

    Args:
        compared: events of rules.
        rules: different ones among them.
        unknown: events without a text.
        mismatches: descriptions.
    """

    compared: int
    rules: int
    unknown: int
    mismatches: list[str]


def compared(events: Iterable[Mapping[str, Any]], texts: Mapping[Handle, str]) -> TextComparison:
    """Compare each event's text with that of its rule."""
    count = unknown = 0
    rules = set()
    mismatches: dict[str, None] = {}
    for nft in (event["nft"] for event in events):
        if "rule_handle" not in nft:
            continue
        handle: Handle = nft["family"], nft["table"], nft["rule_handle"]
        count += 1
        rules.add(handle)
        if nft["text"] is None:
            unknown += 1
        elif nft["text"] != texts.get(handle):
            mismatches[f"{handle}: pypwru {nft['text']!r}, nft {texts.get(handle)!r}"] = None
    return TextComparison(count, len(rules), unknown, [*mismatches])
