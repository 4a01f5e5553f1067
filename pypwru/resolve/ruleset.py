"""An nftables ruleset as the kernel has it: tables, chains and rules by their handles."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.escaping import escape_unprintable
from pypwru.kernel.nfnetlink import Message, attributes
from pypwru.kernel.nft_words import family_word, hook_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_POLICIES = {0: "drop", 1: "accept"}  # NF_DROP, NF_ACCEPT
_LONGEST = 16384  # characters; a set written out in a rule may have any number of elements
_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT of libnftnl's udata.h


class RuleText(NamedTuple):
    """A rule.

    Args:
        text: as ``nft list ruleset`` or ``iptables -S`` has it, of one line, without the packets
            and bytes counted; empty while, or where, nobody could be asked.
        comment: the rule's, of one line; empty if it has none.
    """

    text: str
    comment: str


class ChainText(NamedTuple):
    """A chain.

    Args:
        family: ``inet``, ``ip``, ...
        table, chain: names.
        hook: ``input``, ...; empty for a chain that only jumps lead to, which has no priority
            and no policy either.
        policy: ``accept`` or ``drop``.
    """

    family: str
    table: str
    chain: str
    hook: str = ""
    priority: int = 0
    policy: str = ""


@dataclass
class Chain:
    """A chain; ``rules`` are handle and comment, as it is, of each rule, in their order."""

    text: ChainText
    rules: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Table:
    """A table; ``chains`` by their handles, in their order."""

    family: str
    name: str
    chains: dict[int, Chain] = field(default_factory=dict)


# Handle of each table to the table.
Tables = dict[int, Table]
Name = TypeVar("Name")
Owner = TypeVar("Owner")


def one_line(text: str) -> str:
    """``text`` without what a terminal would obey, and not too long."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return escape_unprintable(text)


def readable(octets: bytes) -> str:
    """Text of the kernel's or of a command's, which is UTF-8 by custom alone."""
    return octets.decode(errors="backslashreplace")


def build(tables: Iterable[Message], chains: Iterable[Message], rules: Iterable[Message]) -> Tables:
    """The ruleset of three dumps.

    Raises:
        InterruptedError: they are not of one generation.
    """
    made: Tables = {}
    by_name: dict[tuple[int, bytes], Table] = {}
    for message in tables:
        found = dict(attributes(message.body))
        table = Table(family_word(message.family), name_text(found[1]))
        made[_number(found[4])] = by_name[message.family, found[1]] = table
    chain_by_name: dict[tuple[int, bytes, bytes], Chain] = {}
    for message in chains:
        found = dict(attributes(message.body))
        table = _of(by_name, (message.family, found[1]))
        chain = Chain(_chain(table, found))
        table.chains[_number(found[2])] = chain
        chain_by_name[message.family, found[1], found[3]] = chain
    for message in rules:
        found = dict(attributes(message.body))
        chain = _of(chain_by_name, (message.family, found[1], found[2]))
        chain.rules.append((_number(found[3]), _rule_comment(found)))
    return made


def _of(owners: Mapping[Name, Owner], name: Name) -> Owner:
    try:
        return owners[name]
    except KeyError:
        raise InterruptedError(4, "the ruleset changed while it was read") from None


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def name_text(value: bytes) -> str:
    """A name, of the kernel's attribute."""
    return one_line(readable(value.rstrip(b"\0")))


def _chain(table: Table, found: dict[int, bytes]) -> ChainText:
    plain = ChainText(table.family, table.name, name_text(found[3]))
    if 4 not in found:  # NFTA_CHAIN_HOOK
        return plain
    hook = dict(attributes(found[4]))
    return plain._replace(
        hook=hook_word(table.family, _number(hook[1])),
        priority=struct.unpack("!i", hook[2])[0],
        policy=_POLICIES.get(_number(found.get(5, b"\1")), ""),
    )


def _rule_comment(found: dict[int, bytes]) -> str:
    """That of nft, else that of iptables' match ``comment``."""
    for kind, value in _user_data(found.get(7, b"")):
        if kind == _COMMENT:
            return readable(value.rstrip(b"\0"))
    if b"comment\0" not in found.get(4, b""):
        return ""
    for _, element in attributes(found[4]):
        expression = dict(attributes(element))
        if expression.get(1) == b"match\0":
            match = dict(attributes(expression.get(2, b"")))
            if match.get(1) == b"comment\0":  # NFTA_MATCH_NAME, NFTA_MATCH_INFO
                return readable(match.get(3, b"").split(b"\0")[0])
    return ""


def _user_data(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of what user space keeps with a rule: u8 kind, u8 size, value."""
    at = 0
    while at + 2 <= len(data):
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
