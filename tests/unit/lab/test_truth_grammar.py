"""Random rulesets: the same for the same seed, without loops, and all that the grammar has."""

from __future__ import annotations

import re

from hypothesis import given, settings

from tests.lab.truth.grammar import derived, rulesets
from tests.lab.truth.rulesets import Ruleset, fixed

CHAIN = re.compile(r"\tchain (\w+) \{\n(.*?)\n\t\}", re.S)
SAID = (
    *("accept", "drop", "return", "jump", "goto", "continue", "reject", "queue", "vmap", "limit"),
    *("quota", "log", "masquerade", "redirect", "dnat to", "snat to", "policy drop", "map known"),
)
FAMILIES = ("inet", "ip", "ip6", "arp", "bridge", "netdev")


def tables(text: str) -> list[str]:
    return re.split(r"^(?=table )", text, flags=re.M)[1:]


@settings(max_examples=10)
@given(rulesets())
def test_every_target_is_a_chain_and_none_comes_back_to_itself(ruleset: Ruleset) -> None:
    for table in tables(ruleset.nft["router"]):
        assert table.count("{") == table.count("}")
        to: dict[str, set[str]] = {}
        for name, rules in CHAIN.findall(table):
            to[name] = set(re.findall(r"(?:jump|goto) (\w+)", rules))
            if "@known" in rules:
                (elements,) = re.findall(r"map known .*", table)
                to[name] |= set(re.findall(r"(?:jump|goto) (\w+)", elements))
        assert set().union(*to.values()) <= set(to)
        while to:
            ends = {name for name, targets in to.items() if not targets & set(to)}
            assert ends, f"a loop of {to} in {table}"
            for name in ends:
                del to[name]


def test_a_seed_gives_the_same_rulesets() -> None:
    once = derived(2, 5)

    assert once[0] != once[1]
    assert derived(1, 6) == once[1:]


def test_little_is_missing_in_a_few() -> None:
    few = derived(8, 1)
    text = "\n".join(ruleset.nft["router"] for ruleset in few)

    assert [word for word in SAID if word not in text] == []
    assert {head.split()[1] for head in re.findall(r"^table .*", text, re.M)} == set(FAMILIES)
    assert {program for ruleset in few for program in ruleset.iptables} == {"iptables", "ip6tables"}


def test_the_fixed_one_is_whole() -> None:
    ruleset = fixed()

    assert set(ruleset.nft) == {"near", "router", "far"}
    assert ruleset.nft["router"].count("\n") > 1000
    assert set(ruleset.iptables) == {"iptables", "ip6tables"}
