"""An nftables ruleset from netlink dumps: tables, chains and rules by handle."""

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
_LONGEST = 16384  # characters of a text; an anonymous set may have any number of elements
_LONGEST_SET = 200  # characters between the braces of a set that is printed in full
_QUOTED = r'"[^"]*"'
_SET = re.compile(rf'{_QUOTED}|\{{ ([^"{{}}]*(?:{_QUOTED}[^"{{}}]*)*) \}}')
_REJECT = re.compile(r"(?:^|[ {])reject(?=[ ;]|$)|^-A .* -j REJECT\b")
_COMMENT = 0  # NFTNL_UDATA_*_COMMENT of libnftnl's udata.h
_BINDING = 4  # NFT_CHAIN_BINDING


class RuleText(NamedTuple):
    """A rule as it is printed.

    Args:
        text: of ``nft list ruleset`` or ``iptables -S``, on one line, without values of counters;
            "" if it couldn't be listed, or not yet.
        comment: of the rule, on one line; "" without one.
    """

    text: str
    comment: str


class ChainText(NamedTuple):
    """A chain as it is printed.

    Args:
        family: ``inet``, ``ip``, ...
        table: name.
        chain: name; of a chain that is bound to a rule, the chain and handle of that rule,
            ``input#5``.
        hook: ``input``, ...; "" for a regular (non-base) chain.
        priority: of a base chain; else 0.
        policy: ``accept`` or ``drop`` of a base chain; else "".
    """

    family: str
    table: str
    chain: str
    hook: str = ""
    priority: int = 0
    policy: str = ""


class Rule(NamedTuple):
    """A rule, from netlink.

    Args:
        handle: unique in its table.
        comment: unescaped; "" without one.
        block: kernel's name of the chain that is bound to it (``jump { ... }``); "" for none.
        is_xt: it has an xtables match or target, which only the iptables tools print in full.
    """

    handle: int
    comment: str = ""
    block: str = ""
    is_xt: bool = False


class Chain(SimpleNamespace):
    """A chain, from netlink.

    Args:
        text: names and hook.
        rules: in evaluation order.
        comment: unescaped; "" without one.
    """

    text: ChainText
    rules: list[Rule]
    comment: str

    def __init__(self, text: ChainText, rules: Iterable[Rule] = (), comment: str = "") -> None:
        super().__init__(text=text, rules=list(rules), comment=comment)


class Table(SimpleNamespace):
    """A table, from netlink.

    Args:
        family: ``inet``, ``ip``, ...
        name: of the table.
        chains: handle -> chain, in the order of the dump.
        blocks: kernel's name -> handle of chains that are bound to rules.
    """

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
        """Whether a rule has an xtables match or target."""
        return any(rule.is_xt for chain in self.chains.values() for rule in chain.rules)


# Handle of a table -> the table.
Tables = dict[int, Table]
Name = TypeVar("Name")
Owner = TypeVar("Owner")


def one_line(text: str) -> str:
    """Return ``text`` with control characters escaped, cut to a maximum length."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return escape_unprintable(text)


def rule_line(text: str) -> str:
    """Return the text of a rule on one line; if it is too long, long sets are elided first."""
    return one_line(_SET.sub(_with_count, text) if len(text) > _LONGEST else text)


@functools.lru_cache(1 << 10)
def shown(text: str) -> str:
    """Return the text of a rule as it is printed: long sets become ``{ 3000 elements }``."""
    return _SET.sub(_with_count, text) if len(text) > _LONGEST_SET else text


def _with_count(found: re.Match[str]) -> str:
    """Return ``{ 3000 elements }`` for a long set, else the match as it is."""
    elements = found[1] or ""
    if len(elements) <= _LONGEST_SET:
        return found[0]
    return f"{{ {re.sub(_QUOTED, '', elements).count(',') + 1} elements }}"


@functools.lru_cache(1 << 10)
def rejects(text: str) -> bool:
    """Return whether a rule with this text rejects packets: drops them and notifies the sender."""
    return bool(_REJECT.search(re.sub(_QUOTED, "", text)))


def readable(octets: bytes) -> str:
    """Decode text of the kernel or of a command; bytes that aren't UTF-8 become ``\\xNN``."""
    return octets.decode(errors="backslashreplace")


def build(tables: Iterable[Message], chains: Iterable[Message], rules: Iterable[Message]) -> Tables:
    """Build the ruleset from three dumps.

    Args:
        tables: NFT_MSG_NEWTABLE messages.
        chains: NFT_MSG_NEWCHAIN messages.
        rules: NFT_MSG_NEWRULE messages.

    Returns:
        The tables by handle.

    Raises:
        InterruptedError: a chain or rule is of a table or chain that its dump didn't have: the
            ruleset changed between the dumps.
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
    """Name bound chains after their rules, ``input#5``: no listing has the kernel's names."""
    bound = set(table.blocks.values())
    owners = [chain for handle, chain in table.chains.items() if handle not in bound]
    while owners:
        owner = owners.pop()
        for rule in owner.rules:
            if rule.block:  # bound to this rule alone
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
    """Return the text of a NUL-terminated name from a netlink attribute, on one line."""
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
    """Return the target chain of an ``immediate`` expression; "" for none."""
    value = dict(attributes(data.get(2, b"")))  # NFTA_IMMEDIATE_DATA
    verdict = dict(attributes(value.get(2, b"")))  # NFTA_DATA_VERDICT
    return name_text(verdict.get(2, b""))  # NFTA_VERDICT_CHAIN


def _comment(data: bytes) -> str:
    """Return the comment in the user data of a rule or chain; "" for none."""
    for kind, value in _user_data(data):
        if kind == _COMMENT:
            return readable(value.rstrip(b"\0"))
    return ""


def _user_data(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each TLV that user space stored with a rule: u8, u8 size, value."""
    at = 0
    while at + 2 <= len(data):
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
