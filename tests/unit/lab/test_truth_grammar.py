"""Random rulesets: reproducible from a seed, without loops, with the whole grammar."""

from __future__ import annotations

import re

from hypothesis import given, settings

from tests.lab.truth.grammar import derived, rulesets
from tests.lab.truth.rulesets import Ruleset, fixed

CHAIN = re.compile(r"\tchain (\w+) \{\n(.*?)\n\t\}", re.S)
STATEMENTS = (
    *("accept", "drop", "return", "jump", "goto", "continue", "reject", "queue", "vmap", "limit"),
    *("quota", "log", "masquerade", "redirect", "dnat to", "snat to", "policy drop", "map known"),
)
FAMILIES = ("inet", "ip", "ip6", "arp", "bridge", "netdev")


def tables(text: str) -> list[str]:
    return re.split(r"^(?=table )", text, flags=re.M)[1:]


@settings(max_examples=10)
@given(rulesets())
def test_jumps_have_targets_and_no_loop(ruleset: Ruleset) -> None:
    for table in tables(ruleset.nft["router"]):
        assert table.count("{") == table.count("}")
        jumps: dict[str, set[str]] = {}
        for name, rules in CHAIN.findall(table):
            jumps[name] = set(re.findall(r"(?:jump|goto) (\w+)", rules))
            if "@known" in rules:
                (elements,) = re.findall(r"map known .*", table)
                jumps[name] |= set(re.findall(r"(?:jump|goto) (\w+)", elements))
        assert set().union(*jumps.values()) <= set(jumps)
        while jumps:
            leaves = {name for name, targets in jumps.items() if not targets & set(jumps)}
            assert leaves, f"a loop of {jumps} in {table}"
            for name in leaves:
                del jumps[name]


def test_seed_is_reproducible() -> None:
    once = derived(2, 5)

    assert once[0] != once[1]
    assert derived(1, 6) == once[1:]


def test_few_rulesets_have_the_whole_grammar() -> None:
    few = derived(8, 1)
    text = "\n".join(ruleset.nft["router"] for ruleset in few)

    assert [word for word in STATEMENTS if word not in text] == []
    assert {head.split()[1] for head in re.findall(r"^table .*", text, re.M)} == set(FAMILIES)
    assert {program for ruleset in few for program in ruleset.iptables} == {"iptables", "ip6tables"}


def test_fixed_ruleset_is_complete() -> None:
    ruleset = fixed()

    assert set(ruleset.nft) == {"near", "router", "far"}
    assert ruleset.nft["router"].count("\n") > 1000
    assert set(ruleset.iptables) == {"iptables", "ip6tables"}
