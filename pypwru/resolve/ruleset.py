"""An nftables ruleset as the kernel has it: tables, chains and rules by their handles."""

from __future__ import annotations

import functools
import re
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.escaping import escape_unprintable
from pypwru.kernel.nfnetlink import Message, attributes
from pypwru.kernel.nft_words import family_word, hook_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_POLICIES = {0: "drop", 1: "accept"}  # NF_DROP, NF_ACCEPT
_LONGEST = 16384  # characters; a set written out in a rule may have any number of elements
_LONGEST_SET = 200  # characters between the braces of a set that is shown
_QUOTED = r'"[^"]*"'
_SET = re.compile(rf'{_QUOTED}|\{{ ([^"{{}}]*(?:{_QUOTED}[^"{{}}]*)*) \}}')
_REJECT = re.compile(r"(?:^|[ {])reject(?=[ ;]|$)|^-A .* -j REJECT\b")
_COMMENT = 0  # NFTNL_UDATA_*_COMMENT of libnftnl's udata.h
_BINDING = 4  # NFT_CHAIN_BINDING


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
        table, chain: names; of a chain that is bound to a rule that of its chain and its handle,
            ``input#5``.
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


class Rule(NamedTuple):
    """A rule.

    Args:
        handle: unique in its table.
        comment: as it is; empty if it has none.
        block: name of the chain that is bound to it (``jump { ... }``); empty for none.
        is_xt: whether it has a match or target of iptables, which only iptables writes in full.
    """

    handle: int
    comment: str = ""
    block: str = ""
    is_xt: bool = False


class Chain(SimpleNamespace):
    """A chain; ``rules`` in their order, ``comment`` as it is."""

    text: ChainText
    rules: list[Rule]
    comment: str

    def __init__(self, text: ChainText, rules: Iterable[Rule] = (), comment: str = "") -> None:
        super().__init__(text=text, rules=list(rules), comment=comment)


class Table(SimpleNamespace):
    """A table; ``chains`` by their handles, in their order; ``blocks`` are bound ones, by name."""

    family: str
    name: str
    chains: dict[int, Chain]
    blocks: dict[str, int]

    def __init__(
        self,
        family: str,
        name: str,
        chains: Mapping[int, Chain] | None = None,
        blocks: Mapping[str, int] | None = None,
    ) -> None:
        chains, blocks = dict(chains or {}), dict(blocks or {})
        super().__init__(family=family, name=name, chains=chains, blocks=blocks)

    @property
    def has_xt(self) -> bool:
        """Whether a rule has a match or target of iptables."""
        return any(rule.is_xt for chain in self.chains.values() for rule in chain.rules)


# Handle of each table to the table.
Tables = dict[int, Table]
Name = TypeVar("Name")
Owner = TypeVar("Owner")


def one_line(text: str) -> str:
    """``text`` without what a terminal would obey, and not too long."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return escape_unprintable(text)


def rule_line(text: str) -> str:
    """The text of a rule on one line; what is too long is cut inside its sets, if that will do."""
    return one_line(_SET.sub(_with_count, text) if len(text) > _LONGEST else text)


@functools.lru_cache(1 << 10)
def shown(text: str) -> str:
    """The text of a rule as it is shown: of long sets with the number of elements alone."""
    return _SET.sub(_with_count, text) if len(text) > _LONGEST_SET else text


def _with_count(found: re.Match[str]) -> str:
    """``{ 3000 elements }`` for a long set."""
    elements = found[1] or ""
    if len(elements) <= _LONGEST_SET:
        return found[0]
    return f"{{ {re.sub(_QUOTED, '', elements).count(',') + 1} elements }}"


@functools.lru_cache(1 << 10)
def rejects(text: str) -> bool:
    """Whether a rule of this text, if it drops a packet, says so to its sender."""
    return bool(_REJECT.search(re.sub(_QUOTED, "", text)))


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
        handle, chain = _number(found[2]), Chain(_chain(table, found))
        chain.comment = _comment(found.get(12, b""))  # NFTA_CHAIN_USERDATA
        table.chains[handle] = chain_by_name[message.family, found[1], found[3]] = chain
        if _number(found.get(10, b"")) & _BINDING:  # NFTA_CHAIN_FLAGS
            table.blocks[chain.text.chain] = handle
    for message in rules:
        found = dict(attributes(message.body))
        chain = _of(chain_by_name, (message.family, found[1], found[2]))
        chain.rules.append(_rule(found, by_name[message.family, found[1]].blocks))
    for table in made.values():
        _name_blocks(table)
    return made


def _name_blocks(table: Table) -> None:
    """Name bound chains after their rules, as ``input#5``: the kernel's names are in no listing."""
    bound = set(table.blocks.values())
    owners = [chain for handle, chain in table.chains.items() if handle not in bound]
    while owners:
        owner = owners.pop()
        for rule in owner.rules:
            if rule.block:  # which no other rule has
                block = table.chains[table.blocks[rule.block]]
                name = f"{owner.text.chain}#{rule.handle}"
                block.text = block.text._replace(chain=name)
                owners.append(block)


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


def _rule(found: dict[int, bytes], blocks: Mapping[str, int]) -> Rule:
    rule = Rule(_number(found[3]), _comment(found.get(7, b"")))  # NFTA_RULE_USERDATA
    expressions = found.get(4, b"")
    if not (blocks or b"match\0" in expressions or b"target\0" in expressions):
        return rule
    for _, element in attributes(expressions):
        expression = dict(attributes(element))
        name, data = expression[1], dict(attributes(expression.get(2, b"")))
        if name in (b"match\0", b"target\0"):
            rule = rule._replace(is_xt=True)
            if data.get(1) == b"comment\0":  # NFTA_MATCH_NAME, NFTA_MATCH_INFO
                said = readable(data.get(3, b"").split(b"\0")[0])
                rule = rule._replace(comment=rule.comment or said)
        elif name == b"immediate\0" and (target := _target(data)) in blocks:
            rule = rule._replace(block=target)
    return rule


def _target(data: Mapping[int, bytes]) -> str:
    """Name of the chain that an ``immediate`` has; empty for none."""
    value = dict(attributes(data.get(2, b"")))  # NFTA_IMMEDIATE_DATA
    verdict = dict(attributes(value.get(2, b"")))  # NFTA_DATA_VERDICT
    return name_text(verdict.get(2, b""))  # NFTA_VERDICT_CHAIN


def _comment(data: bytes) -> str:
    """What user data of a rule or chain have; empty for none."""
    for kind, value in _user_data(data):
        if kind == _COMMENT:
            return readable(value.rstrip(b"\0"))
    return ""


def _user_data(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of what user space keeps with a rule: u8 kind, u8 size, value."""
    at = 0
    while at + 2 <= len(data):
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
