"""Listings of nft (of four versions) and iptables, matched with the kernel's ruleset."""

from __future__ import annotations

import json
import struct

import pytest

from pypwru.kernel.netlink import Message, encode_attribute, encode_nested
from pypwru.nft.parse_listing import find_special_strings, parse_iptables_save, parse_nft_listing
from pypwru.nft.ruleset import (
    Chain,
    ChainText,
    Rule,
    Table,
    Tables,
    elide_sets,
    parse_ruleset,
    sanitize_line,
)
from tests.native.rule_namespaces import HARD_TEXTS
from tests.support.paths import DATA

NFT = DATA / "nft"
VERSIONS = ["0.9.8", "1.0.6", "1.1.3", "1.1.7"]


def tables_from_json(version: str) -> Tables:
    """Return tables, chains and rules from nft's JSON of the same ruleset."""
    tables: Tables = {}
    names: dict[tuple[str, str], Table] = {}
    for each in json.loads((NFT / f"{version}.json").read_text()):
        (kind, row), *_ = each.items()
        if kind == "table":
            table = Table(row["family"], row["name"])
            tables[row["handle"]] = names[row["family"], row["name"]] = table
        elif kind == "chain":
            text = ChainText(row["family"], row["table"], row["name"])
            names[row["family"], row["table"]].chains[row["handle"]] = Chain(text)
        elif kind == "rule":
            chains = names[row["family"], row["table"]].chains.values()
            (chain,) = (c for c in chains if c.text.chain == row["chain"])
            chain.rules.append(Rule(row["handle"], row.get("comment", "")))
    return tables


def one_chain(*rules: tuple[int, str], chain: int = 1) -> Tables:
    """Return table 1 ``ip t`` with one chain ``c``."""
    result = Chain(ChainText("ip", "t", "c"), [Rule(*rule) for rule in rules])
    return {1: Table("ip", "t", {chain: result})}


LISTED = """table ip t { # handle 1
\tchain c { # handle 1
\t\ttype filter hook input priority filter; policy accept;
\t\taccept # handle 2
\t\tdrop # handle 3
\t}
}
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_listed_rule_has_a_text(version: str) -> None:
    tables = tables_from_json(version)
    texts, mismatched = parse_nft_listing((NFT / f"{version}.txt").read_text(), tables)
    assert not mismatched
    assert set(texts) == {
        (table, chain, rule)
        for table, each in tables.items()
        for chain, rules in each.chains.items()
        for rule in (rule.handle for rule in rules.rules)
    }
    assert len(texts) == 17
    for table, each in tables.items():
        for chain, rules in each.chains.items():
            for rule, comment, *_ in rules.rules:
                text = texts[table, chain, rule]
                assert not comment or f'comment "{comment}"' in text
                assert "\t" not in text and "handle" not in text.partition("comment")[0]
    assert 'counter drop comment "grüße aus Köln, 你好 🐧"' in " ".join(texts.values())


def test_differing_ruleset_has_no_text() -> None:
    assert parse_nft_listing(LISTED, one_chain((2, ""), (3, "")))[0] == {
        (1, 1, 2): "accept",
        (1, 1, 3): "drop",
    }
    for other in (
        one_chain((2, ""), (4, "")),
        one_chain((3, ""), (2, "")),
        one_chain((2, "")),
        one_chain((2, ""), (3, ""), (4, "")),
        one_chain((2, ""), (3, ""), chain=4),
        {2: one_chain((2, ""), (3, ""))[1]},
        {1: Table("ip6", "t", one_chain((2, ""), (3, ""))[1].chains)},
    ):
        assert parse_nft_listing(LISTED, other) == ({}, [f"{next(iter(other.values())).family} t"])
    assert parse_nft_listing("", one_chain((2, "")))[0] == {}


def test_tables_are_checked_separately() -> None:
    other = Chain(ChainText("inet", "u", "c"), [Rule(5)])
    tables = one_chain((2, ""), (3, "")) | {7: Table("inet", "u", {1: other})}
    listing = LISTED + "table inet u { # handle 7\n\tchain c { # handle 1\n\t}\n}\n"
    texts, mismatched = parse_nft_listing(listing, tables)
    assert len(texts) == 2 and mismatched == ["inet u"]


def test_chains_are_checked_separately() -> None:
    tables = one_chain((2, ""), (3, ""))
    tables[1].chains[5] = Chain(ChainText("ip", "t", "d"), [Rule(6)])
    listing = LISTED.removesuffix("}\n") + "\n\tchain d { # handle 5\n\t\tdrop # handle 7\n\t}\n}\n"
    texts, mismatched = parse_nft_listing(listing, tables)
    assert texts == {(1, 1, 2): "accept", (1, 1, 3): "drop"} and mismatched == ["ip t"]


def test_duplicate_first_line_has_no_text() -> None:
    tables = one_chain((2, ""), (3, ""))
    chain = LISTED.partition("\n")[2].removesuffix("}\n")
    for listing in (LISTED + LISTED, LISTED.removesuffix("}\n") + chain + "}\n"):
        assert parse_nft_listing(listing, tables) == ({}, ["ip t"])


def test_table_with_owner() -> None:
    listing = LISTED.replace("handle 1\n", "handle 1 progname firewalld\n\tflags owner\n", 1)
    assert len(parse_nft_listing(listing, one_chain((2, ""), (3, "")))[0]) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_multi_line_strings_and_bound_chains(version: str) -> None:
    """A recorded listing, and the kernel's dump, of rules that were written by hand."""
    recorded = json.loads((NFT / f"{version}.hard.json").read_text())
    tables = parse_ruleset(
        *([Message(0, family, bytes.fromhex(body)) for family, body in dump]
          for dump in recorded["kernel"])
    )  # fmt: skip
    listing = (NFT / f"{version}.hard.txt").read_text()
    texts, mismatched = parse_nft_listing(listing, tables, find_special_strings(recorded["json"]))
    assert not mismatched
    ((handle, table),) = tables.items()
    found = {
        chain.text.chain: [texts[handle, number, rule.handle] for rule in chain.rules]
        for number, chain in table.chains.items()
        if chain.rules
    }
    assert found == HARD_TEXTS
    # Without the set's strings the chain appears twice: it has no texts rather than wrong ones.
    partial, mismatched = parse_nft_listing(listing, tables)
    assert mismatched == ["inet filter"]
    assert partial == {key: texts[key] for key in partial} and len(partial) == 1


def test_long_block_is_abbreviated() -> None:
    inner = [Rule(handle) for handle in range(10, 40)]
    tables = one_chain()
    tables[1].chains[1].rules.append(Rule(3, bound_chain="__chain0"))
    tables[1].chains[7] = Chain(ChainText("ip", "t", "c#3"), inner)
    tables[1].bound_chains["__chain0"] = 7
    rules = "".join(f"\t\t\ttcp dport {rule.handle} drop\n" for rule in inner)
    listing = (
        "table ip t { # handle 1\n\tchain c { # handle 1\n"
        f"\t\tjump {{\n{rules}\t\t}} # handle 3\n\t}}\n}}\n"
    )
    texts, mismatched = parse_nft_listing(listing, tables)
    assert not mismatched and len(texts) == 31
    assert texts[1, 1, 3] == "jump { 30 rules }" and texts[1, 7, 12] == "tcp dport 12 drop"
    for short in (
        listing.replace("\t\t\ttcp dport 12 drop\n", ""),
        listing.replace("\t\t}", "\t\tx"),
    ):
        assert parse_nft_listing(short, tables) == ({}, ["ip t"])


@pytest.mark.parametrize(
    "comment",
    [
        "a\n\t\taccept # handle 3",
        "x # handle 3\n",
        "\n\t}\n\tchain d { # handle 9\n\t\tdrop # handle 3",
    ],
)
def test_multi_line_comment(comment: str) -> None:
    listing = LISTED.replace("accept #", f'accept comment "{comment}" #')
    texts, mismatched = parse_nft_listing(listing, one_chain((2, comment), (3, "")))
    assert not mismatched
    assert texts == {(1, 1, 2): f'accept comment "{sanitize_line(comment)}"', (1, 1, 3): "drop"}


def test_many_multi_line_comments() -> None:
    comments = {handle: f"of\nrule {handle}" + handle % 50 * "." for handle in range(2, 5000)}
    rules = "".join(
        f'\t\tdrop comment "{comment}" # handle {handle}\n' for handle, comment in comments.items()
    )
    listing = f"table ip t {{ # handle 1\n\tchain c {{ # handle 1\n{rules}\t}}\n}}\n"
    texts, mismatched = parse_nft_listing(listing, one_chain(*comments.items()))
    assert not mismatched
    assert texts == {
        (1, 1, handle): f'drop comment "{sanitize_line(comment)}"'
        for handle, comment in comments.items()
    }


@pytest.mark.parametrize(
    "prefix",
    [
        "a # handle 3\nb",
        "a\n\tchain d { # handle 9\nb",
        "a\n\tset s { # handle 9\nb",
        "a\ntable ip t { # handle 1\n",
    ],
)
def test_multi_line_prefix_forges_no_rule(prefix: str) -> None:
    """The texts of such a table are missing or right."""
    listing = LISTED.replace("accept #", f'log prefix "{prefix}" #')
    texts, _ = parse_nft_listing(listing, one_chain((2, ""), (3, "")))
    assert texts.get((1, 1, 3), "drop") == "drop"
    assert texts.get((1, 1, 2), prefix).startswith(("log", prefix))


def test_comment_like_text_between_strings() -> None:
    """With quotes in a string, which nft refuses, its end would be the start of another."""
    between = " # handle 2\n\t\taccept # handle 3\n\t\tlog prefix "
    listing = (
        "table ip t { # handle 1\n\tchain c { # handle 1\n"
        f'\t\tlog prefix "a"b"{between}"c"d" # handle 4\n\t\tdrop comment "{between}" # handle 5\n'
        "\t}\n}\n"
    )
    tables = one_chain((2, ""), (3, ""), (4, ""), (5, between))
    texts, mismatched = parse_nft_listing(listing, tables, ['a"b', 'c"d'])
    assert not mismatched
    assert list(texts.values()) == [
        'log prefix "a"b"',
        "accept",
        'log prefix "c"d"',
        f'drop comment "{sanitize_line(between)}"',
    ]


def test_iptables_rules_match_by_order() -> None:
    saved = (
        "# Generated by iptables-nft-save\n*filter\n:INPUT ACCEPT [0:0]\n:mine - [0:0]\n"
        "-A INPUT -j mine\n-A INPUT -j LOG\n-A INPUT -j REJECT\n-A mine -j LOG\nCOMMIT\n"
    )
    table = Table("ip", "filter")
    rules = [Rule(5), Rule(4, has_xt=True), Rule(6, has_xt=True)]
    table.chains[1] = Chain(ChainText("ip", "filter", "INPUT"), rules)
    table.chains[2] = Chain(ChainText("ip", "filter", "mine"), [Rule(7, has_xt=True), Rule(8)])
    table.chains[3] = Chain(ChainText("ip", "filter", "empty"))
    assert parse_iptables_save(saved, 9, table) == {
        (9, 1, 4): "-A INPUT -j LOG",
        (9, 1, 6): "-A INPUT -j REJECT",
    }


@pytest.mark.parametrize(
    ("family", "hook", "last", "is_known"),
    [
        ("bridge", "", Rule(8), True),
        ("bridge", "", Rule(8, has_xt=True), False),
        ("bridge", "input", Rule(8), False),
        ("ip", "", Rule(8), False),
    ],
)
def test_ebtables_policy_rule_has_no_line(
    family: str, hook: str, last: Rule, is_known: bool
) -> None:
    """The output of ebtables-nft-save 1.8.9 for a user-defined chain."""
    saved = ":mine ACCEPT\n-A mine -p ARP --arp-op Request -j ACCEPT\n"
    table = Table(family, "filter")
    text = ChainText(family, "filter", "mine", hook)
    table.chains[1] = Chain(text, [Rule(7, has_xt=True), last])
    expected = {(9, 1, 7): "-A mine -p ARP --arp-op Request -j ACCEPT"}
    assert parse_iptables_save(saved, 9, table) == (expected if is_known else {})


def test_iptables_multi_line_comment() -> None:
    """The output of iptables-nft-save 1.8.9."""
    comment = 'two\nlines "quoted" it\'s a \\\n-A INPUT -j ACCEPT'
    saved = (
        '-A INPUT -p tcp -m comment --comment "two\nlines \\"quoted\\" it\\\'s a \\\\\n'
        '-A INPUT -j ACCEPT" -j REJECT --reject-with icmp-port-unreachable\n'
        '-A INPUT -p tcp -m comment --comment "say \\"hi\\"" -j LOG\n'
    )
    table = Table("ip", "filter")
    rules = [Rule(5, comment, has_xt=True), Rule(6, 'say "hi"', has_xt=True)]
    table.chains[1] = Chain(ChainText("ip", "filter", "INPUT"), rules)
    first, second, _ = (
        saved.replace("\n-A INPUT -j", "\\n-A INPUT -j").replace("two\n", "two\\n").split("\n")
    )
    assert parse_iptables_save(saved, 9, table) == {(9, 1, 5): first, (9, 1, 6): second}


def test_texts_are_sanitized() -> None:
    assert sanitize_line("a\tb\x1b[31m\x9bö\x7f") == "a\\tb\\u001b[31m\\u009bö\\u007f"
    assert sanitize_line("\u202edrop\u200b") == "\\u202edrop\\u200b"
    assert len(sanitize_line("x" * 20000)) == 16387


def test_long_sets_are_abbreviated() -> None:
    ports = ", ".join(str(port) for port in range(3000))
    short = "tcp dport { 1, 2 } drop"
    assert elide_sets(short) is short
    assert elide_sets(f'log prefix "{{ {ports} }}" drop') == f'log prefix "{{ {ports} }}" drop'
    assert (
        elide_sets(
            f'ip saddr {{ 192.0.2.1, 192.0.2.2 }} tcp dport {{ {ports} }} drop comment "why"'
        )
        == 'ip saddr { 192.0.2.1, 192.0.2.2 } tcp dport { 3000 elements } drop comment "why"'
    )
    commented = ", ".join(f'{port} comment "a, }} b"' for port in range(20))
    assert elide_sets(f"tcp dport vmap {{ {commented} }}") == "tcp dport vmap { 20 elements }"


def message(family: int, *parts: tuple[int, bytes | str | int]) -> Message:
    return Message(0, family, b"".join(encode_attribute(kind, value) for kind, value in parts))


def handle(number: int) -> bytes:
    return struct.pack("!Q", number)


def test_parse_kernel_messages() -> None:
    hook = encode_attribute(1, 1) + encode_attribute(2, struct.pack("!i", -150))
    comment = "grüße\0".encode()
    match = encode_nested(
        1,
        encode_attribute(1, "match"),
        encode_nested(2, encode_attribute(1, "comment"), encode_attribute(3, b"why\0\0")),
    )
    target = encode_nested(
        1, encode_attribute(1, "target"), encode_nested(2, encode_attribute(1, "LOG"))
    )
    result = parse_ruleset(
        [message(1, (1, "t"), (4, handle(1 << 33))), message(5, (1, "t"), (4, handle(2)))],
        [
            message(1, (1, "t"), (2, handle(3)), (3, "base"), (4, hook), (5, 0)),
            message(1, (1, "t"), (2, handle(4)), (3, "plain")),
            message(5, (1, "t"), (2, handle(1)), (3, "in"), (4, hook), (5, 1)),
        ],
        [
            message(
                1,
                (1, "t"),
                (2, "base"),
                (3, handle(9)),
                (7, b"\x05\1x\0" + bytes([len(comment)]) + comment),
            ),
            message(1, (1, "t"), (2, "base"), (3, handle(5)), (4, match)),
            message(1, (1, "t"), (2, "base"), (3, handle(6)), (4, target)),
            message(5, (1, "t"), (2, "in"), (3, handle(9))),
        ],
    )
    assert list(result) == [1 << 33, 2]
    base, plain = result[1 << 33].chains.values()
    assert base.text == ChainText("inet", "t", "base", "input", -150, "drop")
    assert base.rules == [Rule(9, "grüße"), Rule(5, "why", has_xt=True), Rule(6, has_xt=True)]
    assert plain == Chain(ChainText("inet", "t", "plain"))
    assert result[2].chains[1].text == ChainText("netdev", "t", "in", "egress", -150, "accept")


def test_dumps_of_two_generations() -> None:
    chain = message(1, (1, "t"), (2, handle(3)), (3, "c"))
    with pytest.raises(InterruptedError):
        parse_ruleset([], [chain], [])
    with pytest.raises(InterruptedError):
        parse_ruleset([], [], [message(1, (1, "t"), (2, "c"), (3, handle(9)))])
