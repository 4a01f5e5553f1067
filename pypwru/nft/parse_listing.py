"""Parse texts of rules from the output of ``nft -a list ruleset`` and ``iptables-nft-save``.

Tables, chains and rules are known from netlink (nft's JSON lacks chains that are bound to rules);
only the texts are taken from the listing.

nft doesn't escape strings, so a comment with newlines may look like the end of one rule and the
beginning of another. Only strings known from netlink or from nft's JSON are read over several
lines; any other string can add lines to a listing, but never hide one. So a chain is accepted only
if it occurs once and has exactly the lines of its rules, each with the expected handle.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pypwru.nft.ruleset import Chain, Rule, Table, Tables, sanitize_line, sanitize_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Handles of table, chain and rule.
RuleHandles = tuple[int, int, int]

# The owner of a table may follow the handle: `progname firewalld`.
_TABLE = re.compile(r"(table \w+ .* \{ # handle \d+)(?: .*)?")
_CHAIN = re.compile(r"(\tchain .* \{ # handle \d+)(?: .*)?")
_CHAIN_HEADER = re.compile(r"\t\t(?:type \w+ hook|comment) .*")
_CHAIN_END = "\t}"
_BLOCK_START = re.compile(r"(?:.* )?(?:jump|goto) \{")
_MAX_BLOCK_TEXT = 200  # characters of the rules in `jump { ... }` that are printed
_NFT_STRING = re.compile(r'[^"\n]*')
_IPTABLES_STRING = re.compile(r'(?:\\.|[^"\\\n])*')
_APPEND = "-A "


class _MismatchError(Exception):
    """The lines don't fit the rules from netlink."""


def parse_nft_listing(
    listing: str, tables: Tables, strings: Iterable[str] = ()
) -> tuple[dict[RuleHandles, str], list[str]]:
    """Return the text of each rule in an nft listing with handles.

    Args:
        listing: output of nft.
        tables: from netlink, of the same time.
        strings: strings in the listing that may have several lines, besides comments of chains
            and rules.

    Returns:
        Texts by handles; and ``family name`` of tables whose listing doesn't fit netlink's.
    """
    known_strings = {*strings, *_comments(tables.values())}
    sections = _split_sections(
        _join_multiline(listing, known_strings, _NFT_STRING).split("\n"), _TABLE
    )
    texts: dict[RuleHandles, str] = {}
    mismatches = []
    for handle, table in tables.items():
        section = sections.get(f"table {table.family} {table.name} {{ # handle {handle}", [])
        found = _parse_table(table, section)
        texts.update(((handle, *rule), text) for rule, text in found.items())
        if len(found) < sum(len(chain.rules) for chain in table.chains.values()):
            mismatches.append(f"{table.family} {table.name}")
    return texts, mismatches


def find_special_strings(listing: str) -> set[str]:
    """Return the strings with newlines or quotes in output of ``nft -j``; none if it is no JSON."""
    found: set[str] = set()
    with suppress(ValueError, RecursionError):
        pending = [json.loads(listing[listing.index("{") :])]  # nft 0.9.8 writes warnings before it
        while pending:
            value = pending.pop()
            if isinstance(value, str) and _has_newline_or_quote(value):
                found.add(value)
            elif isinstance(value, (list, dict)):
                pending.extend(value.values() if isinstance(value, dict) else value)
    return found


def _comments(tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        for chain in table.chains.values():
            yield chain.comment
            yield from (rule.comment for rule in chain.rules)


def _join_multiline(listing: str, strings: Iterable[str], string_pattern: re.Pattern[str]) -> str:
    """Return a listing with each of ``strings`` on one line.

    Args:
        listing: output of a command.
        strings: as they are printed between quotes.
        string_pattern: matches a string of one line without quotes, and so the beginning of any
            string.
    """
    special = {each for each in strings if _has_newline_or_quote(each)}
    if not any("\n" in each for each in special):
        return listing
    # There may be thousands: candidates at a quote are found by their beginning and length.
    lengths: dict[str, set[int]] = {}
    for each in special:
        lengths.setdefault(_string_prefix(each, string_pattern), set()).add(len(each))
    parts: list[str] = []
    done = offset = 0
    while (quote := listing.find('"', offset) + 1) > 0:
        prefix = _string_prefix(listing, string_pattern, quote)
        offset = quote + len(prefix)
        for length in sorted(lengths.get(prefix, ()), reverse=True):
            end = quote + length
            if listing[quote:end] in special and listing.startswith('"', end):
                parts += (listing[done:quote], sanitize_line(listing[quote:end]))
                done = offset = end
                break
        offset += listing.startswith('"', offset)
    return "".join(parts) + listing[done:]


def _string_prefix(text: str, string_pattern: re.Pattern[str], offset: int = 0) -> str:
    found = string_pattern.match(text, offset)
    return found[0] if found else ""


def _has_newline_or_quote(string: str) -> bool:
    """Return whether a string has a newline or a quote (which nft refuses, but netlink takes)."""
    return "\n" in string or '"' in string


def _split_sections(lines: Iterable[str], head: re.Pattern[str]) -> dict[str, list[str]]:
    """Split lines into sections.

    Args:
        lines: of a listing.
        head: matches the first line of a section; its first group names the section.

    Returns:
        Name -> lines that follow the head; without names that occur twice.
    """
    found: dict[str, list[str]] = {}
    duplicates: set[str] = set()
    section: list[str] = []
    for line in lines:
        if match := head.fullmatch(line):
            if match[1] in found:
                duplicates.add(match[1])
            section = found[match[1]] = []
        else:
            section.append(line)
    return {name: section for name, section in found.items() if name not in duplicates}


def _parse_table(table: Table, section: list[str]) -> dict[tuple[int, int], str]:
    """Return the texts of a table's rules by handles of chain and rule.

    Chains whose lines don't fit have none.
    """
    chains = _split_sections(section, _CHAIN)
    bound = set(table.bound_chains.values())
    texts: dict[tuple[int, int], str] = {}
    for handle, chain in table.chains.items():
        lines = chains.get(f"\tchain {chain.text.chain} {{ # handle {handle}")
        if lines is not None and handle not in bound:
            with suppress(_MismatchError):
                texts |= _parse_chain(table, handle, lines)
    return texts


def _parse_chain(table: Table, handle: int, lines: list[str]) -> dict[tuple[int, int], str]:
    """Return the texts of a chain's rules, and of the chains that are bound to them.

    Args:
        table: of the chain.
        handle: of the chain.
        lines: those that follow the chain's first line.

    Raises:
        _MismatchError: the lines don't fit the rules.
    """
    rules = table.chains[handle].rules
    end = lines.index(_CHAIN_END) if _CHAIN_END in lines else 0
    start = 0
    while end - start > len(rules) and _CHAIN_HEADER.fullmatch(lines[start]):
        start += 1
    remaining = iter(lines[start:end])
    texts: dict[tuple[int, int], str] = {}
    for rule in rules:
        text = next(remaining, "").removeprefix("\t\t")
        if rule.bound_chain:
            text += _parse_block(table, rule, text, remaining, texts)
        text, separator, handle_text = text.rpartition(" # handle ")
        if not separator or handle_text != str(rule.handle):
            raise _MismatchError
        texts[handle, rule.handle] = sanitize_rule(text)
    if next(remaining, None) is not None:
        raise _MismatchError
    return texts


def _parse_block(
    table: Table, rule: Rule, start: str, lines: Iterator[str], texts: dict[tuple[int, int], str]
) -> str:
    """Return what follows ``tcp dport 22 jump {`` on one line: the rules of the bound chain, ``}``.

    Args:
        table: of the rule.
        rule: to which the chain is bound.
        start: the line before, without the indent.
        lines: those that follow; consumed up to the closing brace.
        texts: gets the texts of the bound chain's rules.

    Raises:
        _MismatchError: the lines have no such block.
    """
    handle = table.bound_chains[rule.bound_chain]
    inner = []
    for each in table.chains[handle].rules:
        text = next(lines, "").lstrip("\t").removesuffix(f" # handle {each.handle}")
        texts[handle, each.handle] = sanitize_rule(text)
        inner.append(f" {text};")
    last = next(lines, "").lstrip("\t")
    if not _BLOCK_START.fullmatch(start) or not last.startswith("}"):
        raise _MismatchError
    body = "".join(inner)
    return f"{body if len(body) <= _MAX_BLOCK_TEXT else f' {len(inner)} rules'} {last}"


def parse_iptables_save(output: str, handle: int, table: Table) -> dict[RuleHandles, str]:
    """Return the text of each rule with an xtables match or target.

    Chains with another number of rules have none.

    Args:
        output: output of ``iptables-nft-save -t TABLE``. It may be incomplete for native nftables
            rules, so their texts are not taken from it.
        handle: of the table.
        table: from netlink, of the same time.
    """
    comments = (re.sub(r"[\"'\\]", r"\\\g<0>", each) for each in _comments([table]))
    lines: dict[str, list[str]] = {}
    for line in _join_multiline(output, comments, _IPTABLES_STRING).split("\n"):
        if line.startswith(_APPEND):
            lines.setdefault(line.split(" ", 2)[1], []).append(sanitize_rule(line))
    texts: dict[RuleHandles, str] = {}
    for chain_handle, chain in table.chains.items():
        found, rules = lines.get(chain.text.chain, []), chain.rules
        if len(rules) == len(found) + 1 and _has_policy_rule(table, chain):
            rules = rules[:-1]
        if len(found) == len(rules):
            for rule, text in zip(rules, found, strict=True):
                if rule.has_xt:
                    texts[handle, chain_handle, rule.handle] = text
    return texts


def _has_policy_rule(table: Table, chain: Chain) -> bool:
    """Return whether the last rule can be the policy of a regular chain.

    ebtables-nft implements it by a rule; ebtables-nft-save prints it as ``:chain ACCEPT``, not as a
    rule.
    """
    return table.family == "bridge" and not chain.text.hook and not chain.rules[-1].has_xt
