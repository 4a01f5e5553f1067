"""The text of rules from what ``nft -a list ruleset`` and ``iptables-nft-save`` write.

Strings in a listing are not escaped, so a comment may look like the end of one rule and the
beginning of another. What is read is believed only where it has the very chains and rules, by
handle and order, that the kernel has: a line that isn't a rule's can only add to them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pypwru.resolve.ruleset import Table, Tables, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

# Handles of table, chain and rule.
Key = tuple[int, int, int]
# Handle of each chain to handle and text of its rules.
_Chains = dict[int, list[tuple[int, str]]]

_HANDLE = re.compile(r"(.*?) ?# handle (\d+)", re.DOTALL)
_TABLE = re.compile(r"table (?P<family>\w+) .*\{ ?# handle (?P<handle>\d+)")
_OBJECT = re.compile(r"\t(?P<what>\w+) .*\{ ?# handle (?P<handle>\d+)")
_MINE = "-A "


def nft_texts(listing: str, tables: Tables) -> tuple[dict[Key, str], list[str]]:
    """Text of each rule of an nft listing with handles.

    Args:
        listing: what nft wrote.
        tables: what the kernel had at that time.

    Returns:
        The texts; family and name of the tables in which the listing differs from the kernel.
    """
    for comment in _long_comments(tables):
        listing = listing.replace(f'"{comment}"', f'"{one_line(comment)}"')
    listed = _nft_tables(listing)
    texts: dict[Key, str] = {}
    odd = []
    for handle, table in tables.items():
        found = listed.get((table.family, handle), {})
        if {chain: [rule for rule, _ in rules] for chain, rules in found.items()} == {
            chain: [rule for rule, _ in each.rules] for chain, each in table.chains.items()
        }:
            for chain, rules in found.items():
                texts.update(((handle, chain, rule), text) for rule, text in rules)
        else:
            odd.append(f"{table.family} {table.name}")
    return texts, odd


def _long_comments(tables: Tables) -> set[str]:
    """Comments of several lines."""
    return {
        comment
        for table in tables.values()
        for chain in table.chains.values()
        for _, comment in chain.rules
        if "\n" in comment
    }


def _nft_tables(listing: str) -> Mapping[tuple[str, int], _Chains]:
    tables: dict[tuple[str, int], _Chains] = {}
    chains: _Chains = {}
    rules: list[tuple[int, str]] | None = None
    begun: list[str] = []  # lines of a rule that has not ended
    for line in listing.split("\n"):
        if table := _TABLE.fullmatch(line):
            chains = tables.setdefault((table["family"], int(table["handle"])), {})
            rules, begun = None, []
        elif found := _OBJECT.fullmatch(line):
            # Two of one handle: the second adds its rules to those of the first, so neither fits.
            what = int(found["handle"])
            rules = chains.setdefault(what, []) if found["what"] == "chain" else None
            begun = []
        elif rules is not None:
            begun.append(line)
            if ended := _HANDLE.fullmatch(line):
                begun[-1] = ended[1]
                rules.append((int(ended[2]), one_line("\n".join(_rule_lines(begun)))))
                begun = []
    return tables


def _rule_lines(lines: list[str]) -> list[str]:
    """The lines without those of the chain itself before them, and without the indent."""
    while len(lines) > 1 and (
        not lines[0] or re.match(r"\t\t(type \w+ hook|comment) .*", lines[0])
    ):
        lines = lines[1:]
    return [lines[0].removeprefix("\t\t"), *lines[1:]]


def iptables_texts(saved: str, handle: int, table: Table) -> dict[Key, str]:
    """Text of each rule of a table that iptables-nft manages; of chains that differ, none.

    Args:
        saved: what ``iptables-nft-save -t TABLE`` wrote.
        handle: of the table.
        table: what the kernel had at that time.
    """
    lines: dict[str, list[str]] = {}
    for line in saved.split("\n"):
        if line.startswith(_MINE):
            lines.setdefault(line.split(" ", 2)[1], []).append(one_line(line))
    texts: dict[Key, str] = {}
    for number, chain in table.chains.items():
        found = lines.get(chain.text.chain, [])
        if len(found) == len(chain.rules):
            for (rule, _), text in zip(chain.rules, found, strict=True):
                texts[handle, number, rule] = text
    return texts
