"""The text of rules from what ``nft -a list ruleset`` and ``iptables-nft-save`` write.

Which tables, chains and rules there are says the kernel (nft's JSON lacks chains that are bound to
rules); a listing is asked for their texts alone.

Strings in it are not escaped, so a comment may look like the end of one rule and the beginning of
another. Over several lines only those strings are read that are known from the kernel or from
nft's JSON; any other can add lines to a listing, never hide one. So a chain is believed that is
there once, and has the very lines that its rules take, each with the handle that is due.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pypwru.resolve.ruleset import Chain, Rule, Table, Tables, one_line, rule_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Handles of table, chain and rule.
Key = tuple[int, int, int]

# Behind the handle may stand whose table it is: `progname firewalld`.
_TABLE = re.compile(r"(table \w+ .* \{ # handle \d+)(?: .*)?")
_CHAIN = re.compile(r"(\tchain .* \{ # handle \d+)(?: .*)?")
_OF_CHAIN = re.compile(r"\t\t(?:type \w+ hook|comment) .*")
_CHAIN_END = "\t}"
_BLOCK = re.compile(r"(?:.* )?(?:jump|goto) \{")
_LONGEST_BLOCK = 200  # characters of the rules in `jump { ... }`
_NFT_STRING = re.compile(r'[^"\n]*')
_IPTABLES_STRING = re.compile(r'(?:\\.|[^"\\\n])*')
_MINE = "-A "


class _OtherError(Exception):
    """The lines are not of what the kernel has."""


def nft_texts(
    listing: str, tables: Tables, strings: Iterable[str] = ()
) -> tuple[dict[Key, str], list[str]]:
    """Text of each rule of an nft listing with handles.

    Args:
        listing: what nft wrote.
        tables: what the kernel had at that time.
        strings: that are in the listing and may have several lines, beside comments of chains and
            rules.

    Returns:
        The texts; family and name of the tables in which the listing differs from the kernel.
    """
    known = {*strings, *_comments(tables.values())}
    sections = _sections(_joined(listing, known, _NFT_STRING).split("\n"), _TABLE)
    texts: dict[Key, str] = {}
    odd = []
    for handle, table in tables.items():
        section = sections.get(f"table {table.family} {table.name} {{ # handle {handle}", [])
        found = _table_texts(table, section)
        texts.update(((handle, *rule), text) for rule, text in found.items())
        if len(found) < sum(len(chain.rules) for chain in table.chains.values()):
            odd.append(f"{table.family} {table.name}")
    return texts, odd


def strings_in(listing: str) -> set[str]:
    """Those that may be hard to read, in what ``nft -j`` wrote; none if that can't be read."""
    found: set[str] = set()
    with suppress(ValueError, RecursionError):
        left = [json.loads(listing[listing.index("{") :])]  # before it nft 0.9.8 has warnings
        while left:
            value = left.pop()
            if isinstance(value, str) and _is_odd(value):
                found.add(value)
            elif isinstance(value, (list, dict)):
                left.extend(value.values() if isinstance(value, dict) else value)
    return found


def _comments(tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        for chain in table.chains.values():
            yield chain.comment
            yield from (rule.comment for rule in chain.rules)


def _joined(listing: str, strings: Iterable[str], usual: re.Pattern[str]) -> str:
    """A listing with each of ``strings`` on one line.

    Args:
        strings: as they are between quotes.
        usual: the beginning of a string, as far as it is a string of one line.
    """
    odd = {each for each in strings if _is_odd(each)}
    if not any("\n" in each for each in odd):
        return listing
    # There may be thousands: which can stand behind a quote is known by how it begins.
    lengths: dict[str, set[int]] = {}
    for each in odd:
        lengths.setdefault(_begin(each, usual), set()).add(len(each))
    parts: list[str] = []
    done = at = 0
    while (quote := listing.find('"', at) + 1) > 0:
        begin = _begin(listing, usual, quote)
        at = quote + len(begin)
        for length in sorted(lengths.get(begin, ()), reverse=True):
            end = quote + length
            if listing[quote:end] in odd and listing.startswith('"', end):
                parts += (listing[done:quote], one_line(listing[quote:end]))
                done = at = end
                break
        at += listing.startswith('"', at)
    return "".join(parts) + listing[done:]


def _begin(text: str, usual: re.Pattern[str], at: int = 0) -> str:
    found = usual.match(text, at)
    return found[0] if found else ""


def _is_odd(string: str) -> bool:
    """Whether it has what ends a line or a string; nft takes no quotes, other programs do."""
    return "\n" in string or '"' in string


def _sections(lines: Iterable[str], head: re.Pattern[str]) -> dict[str, list[str]]:
    """The lines behind each that ``head`` matches, by what it does; of one that is twice, none."""
    found: dict[str, list[str]] = {}
    twice: set[str] = set()
    section: list[str] = []
    for line in lines:
        if begins := head.fullmatch(line):
            if begins[1] in found:
                twice.add(begins[1])
            section = found[begins[1]] = []
        else:
            section.append(line)
    return {name: section for name, section in found.items() if name not in twice}


def _table_texts(table: Table, section: list[str]) -> dict[tuple[int, int], str]:
    """Text of each rule, by handles of chain and rule; of chains that differ, none."""
    chains = _sections(section, _CHAIN)
    bound = set(table.blocks.values())
    texts: dict[tuple[int, int], str] = {}
    for handle, chain in table.chains.items():
        lines = chains.get(f"\tchain {chain.text.chain} {{ # handle {handle}")
        if lines is not None and handle not in bound:
            with suppress(_OtherError):
                texts |= _chain_texts(table, handle, lines)
    return texts


def _chain_texts(table: Table, handle: int, lines: list[str]) -> dict[tuple[int, int], str]:
    """Those of a chain and of what is bound to its rules.

    Args:
        lines: behind the first of the chain.

    Raises:
        _OtherError: they are of other rules.
    """
    rules = table.chains[handle].rules
    end = lines.index(_CHAIN_END) if _CHAIN_END in lines else 0
    start = 0
    while end - start > len(rules) and _OF_CHAIN.fullmatch(lines[start]):
        start += 1
    left = iter(lines[start:end])
    texts: dict[tuple[int, int], str] = {}
    for rule in rules:
        text = next(left, "").removeprefix("\t\t")
        if rule.block:
            text += _block(table, rule, text, left, texts)
        text, ended, number = text.rpartition(" # handle ")
        if not ended or number != str(rule.handle):
            raise _OtherError
        texts[handle, rule.handle] = rule_line(text)
    if next(left, None) is not None:
        raise _OtherError
    return texts


def _block(
    table: Table, rule: Rule, begun: str, lines: Iterator[str], texts: dict[tuple[int, int], str]
) -> str:
    """What follows ``tcp dport 22 jump {``: the rules that are bound to it, and ``}``.

    Args:
        begun: the line before.
        lines: those that follow.
        texts: get the texts of the bound rules.
    """
    handle = table.blocks[rule.block]
    inner = []
    for each in table.chains[handle].rules:
        text = next(lines, "").lstrip("\t").removesuffix(f" # handle {each.handle}")
        texts[handle, each.handle] = rule_line(text)
        inner.append(f" {text};")
    last = next(lines, "").lstrip("\t")
    if not _BLOCK.fullmatch(begun) or not last.startswith("}"):
        raise _OtherError
    said = "".join(inner)
    return f"{said if len(said) <= _LONGEST_BLOCK else f' {len(inner)} rules'} {last}"


def iptables_texts(saved: str, handle: int, table: Table) -> dict[Key, str]:
    """Text of each rule with a match or target of iptables; of chains that differ, none.

    Args:
        saved: what ``iptables-nft-save -t TABLE`` wrote, which of all other rules may say less
            than they do.
        handle: of the table.
        table: what the kernel had at that time.
    """
    comments = (re.sub(r"[\"'\\]", r"\\\g<0>", each) for each in _comments([table]))
    lines: dict[str, list[str]] = {}
    for line in _joined(saved, comments, _IPTABLES_STRING).split("\n"):
        if line.startswith(_MINE):
            lines.setdefault(line.split(" ", 2)[1], []).append(rule_line(line))
    texts: dict[Key, str] = {}
    for number, chain in table.chains.items():
        found, rules = lines.get(chain.text.chain, []), chain.rules
        if len(rules) == len(found) + 1 and _has_policy_rule(table, chain):
            rules = rules[:-1]
        if len(found) == len(rules):
            for rule, text in zip(rules, found, strict=True):
                if rule.is_xt:
                    texts[handle, number, rule.handle] = text
    return texts


def _has_policy_rule(table: Table, chain: Chain) -> bool:
    """Whether the last rule can be what ebtables-nft keeps a policy in, of a chain without a hook.

    ebtables-nft-save writes it at the chain's name alone, as ``:chain ACCEPT``.
    """
    return table.family == "bridge" and not chain.text.hook and not chain.rules[-1].is_xt
