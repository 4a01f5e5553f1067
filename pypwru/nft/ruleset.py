"""An nftables ruleset from netlink dumps: tables, chains and rules by handle."""

from __future__ import annotations

import functools
import re
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pypwru.escaping import escape_unprintable
from pypwru.kernel.netfilter import family_name, hook_name
from pypwru.kernel.netlink import Message, parse_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_POLICIES = {0: "drop", 1: "accept"}  # NF_DROP, NF_ACCEPT
_MAX_TEXT = 16384  # characters of a text; an anonymous set may have any number of elements
_MAX_SET_TEXT = 200  # characters between the braces of a set that is printed in full
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
        bound_chain: kernel's name of the chain that is bound to it (``jump { ... }``); "" for none.
        has_xt: it has an xtables match or target, which only the iptables tools print in full.
    """

    handle: int
    comment: str = ""
    bound_chain: str = ""
    has_xt: bool = False


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
        bound_chains: kernel's name -> handle of chains that are bound to rules.
    """

    family: str
    name: str
    chains: dict[int, Chain]
    bound_chains: dict[str, int]

    def __init__(
        self,
        family: str,
        name: str,
        chains: Mapping[int, Chain] | None = None,
        bound_chains: Mapping[str, int] | None = None,
    ) -> None:
        chains, bound_chains = dict(chains or {}), dict(bound_chains or {})
        super().__init__(family=family, name=name, chains=chains, bound_chains=bound_chains)

    @property
    def has_xt(self) -> bool:
        """Whether a rule has an xtables match or target."""
        return any(rule.has_xt for chain in self.chains.values() for rule in chain.rules)


# Handle of a table -> the table.
Tables = dict[int, Table]
_NameT = TypeVar("_NameT")
_OwnerT = TypeVar("_OwnerT")


def sanitize_line(text: str) -> str:
    """Return ``text`` with control characters escaped, cut to a maximum length."""
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}..."
    return escape_unprintable(text)


def sanitize_rule(text: str) -> str:
    """Return the text of a rule on one line; if it is too long, long sets are elided first."""
    return sanitize_line(_SET.sub(_elide_set, text) if len(text) > _MAX_TEXT else text)


@functools.lru_cache(1 << 10)
def elide_sets(text: str) -> str:
    """Return the text of a rule as it is printed: long sets become ``{ 3000 elements }``."""
    return _SET.sub(_elide_set, text) if len(text) > _MAX_SET_TEXT else text


def _elide_set(found: re.Match[str]) -> str:
    """Return ``{ 3000 elements }`` for a long set, else the match as it is."""
    elements = found[1] or ""
    if len(elements) <= _MAX_SET_TEXT:
        return found[0]
    return f"{{ {re.sub(_QUOTED, '', elements).count(',') + 1} elements }}"


@functools.lru_cache(1 << 10)
def has_reject(text: str) -> bool:
    """Return whether a rule with this text rejects packets: drops them and notifies the sender."""
    return bool(_REJECT.search(re.sub(_QUOTED, "", text)))


def decode_text(data: bytes) -> str:
    r"""Decode text of the kernel or of a command; bytes that aren't UTF-8 become ``\xNN``."""
    return data.decode(errors="backslashreplace")


def parse_ruleset(
    tables: Iterable[Message], chains: Iterable[Message], rules: Iterable[Message]
) -> Tables:
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
    table_by_handle: Tables = {}
    table_by_name: dict[tuple[int, bytes], Table] = {}
    for message in tables:
        found = dict(parse_attributes(message.body))
        table = Table(family_name(message.family), decode_name(found[1]))
        table_by_handle[_be_uint(found[4])] = table_by_name[message.family, found[1]] = table
    chain_by_name: dict[tuple[int, bytes, bytes], Chain] = {}
    for message in chains:
        found = dict(parse_attributes(message.body))
        table = _lookup_owner(table_by_name, (message.family, found[1]))
        handle, chain = _be_uint(found[2]), Chain(_parse_chain(table, found))
        chain.comment = _parse_comment(found.get(12, b""))  # NFTA_CHAIN_USERDATA
        table.chains[handle] = chain_by_name[message.family, found[1], found[3]] = chain
        if _be_uint(found.get(10, b"")) & _BINDING:  # NFTA_CHAIN_FLAGS
            table.bound_chains[chain.text.chain] = handle
    for message in rules:
        found = dict(parse_attributes(message.body))
        chain = _lookup_owner(chain_by_name, (message.family, found[1], found[2]))
        chain.rules.append(_parse_rule(found, table_by_name[message.family, found[1]].bound_chains))
    for table in table_by_handle.values():
        _name_bound_chains(table)
    return table_by_handle


def _name_bound_chains(table: Table) -> None:
    """Name bound chains after their rules, ``input#5``: no listing has the kernel's names."""
    bound_handles = set(table.bound_chains.values())
    owners = [chain for handle, chain in table.chains.items() if handle not in bound_handles]
    while owners:
        owner = owners.pop()
        for rule in owner.rules:
            if rule.bound_chain:  # bound to this rule alone
                bound_chain = table.chains[table.bound_chains[rule.bound_chain]]
                name = f"{owner.text.chain}#{rule.handle}"
                bound_chain.text = bound_chain.text._replace(chain=name)
                owners.append(bound_chain)


def _lookup_owner(owners: Mapping[_NameT, _OwnerT], name: _NameT) -> _OwnerT:
    try:
        return owners[name]
    except KeyError:
        raise InterruptedError(4, "the ruleset changed while it was read") from None


def _be_uint(value: bytes) -> int:
    return int.from_bytes(value, "big")


def decode_name(value: bytes) -> str:
    """Return the text of a NUL-terminated name from a netlink attribute, on one line."""
    return sanitize_line(decode_text(value.rstrip(b"\0")))


def _parse_chain(table: Table, found: dict[int, bytes]) -> ChainText:
    regular = ChainText(table.family, table.name, decode_name(found[3]))
    if 4 not in found:  # NFTA_CHAIN_HOOK
        return regular
    hook = dict(parse_attributes(found[4]))
    return regular._replace(
        hook=hook_name(table.family, _be_uint(hook[1])),
        priority=struct.unpack("!i", hook[2])[0],
        policy=_POLICIES.get(_be_uint(found.get(5, b"\1")), ""),
    )


def _parse_rule(found: dict[int, bytes], bound_chains: Mapping[str, int]) -> Rule:
    rule = Rule(_be_uint(found[3]), _parse_comment(found.get(7, b"")))  # NFTA_RULE_USERDATA
    expressions = found.get(4, b"")
    if not (bound_chains or b"match\0" in expressions or b"target\0" in expressions):
        return rule
    for _, element in parse_attributes(expressions):
        expression = dict(parse_attributes(element))
        name, data = expression[1], dict(parse_attributes(expression.get(2, b"")))
        if name in (b"match\0", b"target\0"):
            rule = rule._replace(has_xt=True)
            if data.get(1) == b"comment\0":  # NFTA_MATCH_NAME, NFTA_MATCH_INFO
                xt_comment = decode_text(data.get(3, b"").split(b"\0")[0])
                rule = rule._replace(comment=rule.comment or xt_comment)
        elif name == b"immediate\0" and (target := _jump_target(data)) in bound_chains:
            rule = rule._replace(bound_chain=target)
    return rule


def _jump_target(data: Mapping[int, bytes]) -> str:
    """Return the target chain of an ``immediate`` expression; "" for none."""
    value = dict(parse_attributes(data.get(2, b"")))  # NFTA_IMMEDIATE_DATA
    verdict = dict(parse_attributes(value.get(2, b"")))  # NFTA_DATA_VERDICT
    return decode_name(verdict.get(2, b""))  # NFTA_VERDICT_CHAIN


def _parse_comment(data: bytes) -> str:
    """Return the comment in the user data of a rule or chain; "" for none."""
    for kind, value in _parse_user_data(data):
        if kind == _COMMENT:
            return decode_text(value.rstrip(b"\0"))
    return ""


def _parse_user_data(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each TLV that user space stored with a rule: u8, u8 size, value."""
    offset = 0
    while offset + 2 <= len(data):
        yield data[offset], data[offset + 2 : offset + 2 + data[offset + 1]]
        offset += 2 + data[offset + 1]
