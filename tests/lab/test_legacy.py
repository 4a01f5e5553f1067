"""iptables-legacy on real kernels: what is said of each packet against the rules' own counters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.jobs.legacy import BROUTED, FAMILIES, FIRST, LAST, MANY, TABLES
from tests.lab.kernels import names
from tests.lab.main_job import step

pytestmark = [pytest.mark.lab, pytest.mark.step("legacy")]
SUITE = "main_job"
KERNELS = names(SUITE)
DROPS = ("DROP", "REJECT")
Verdicts = Counter[tuple[str, ...]]


def events(kernel: str, is_brouted: bool = False) -> list[dict[str, Any]]:
    seen = step(kernel, "legacy")
    assert seen["status"] == 0
    found = [json.loads(line) for line in seen["out"].splitlines()]
    return [one for one in found if (one["tuple"].get("dport") == BROUTED) == is_brouted]


def is_own(event: dict[str, Any]) -> bool:
    """Whether it is what the kernel's function said, and not a packet that carries it."""
    return bool(event["type"] == "nft_rule")


def verdict(event: dict[str, Any]) -> tuple[str, ...]:
    return tuple(event["nft"][name] for name in ("family", "table", "chain", "verdict"))


def judged(counters: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Family, table, chain, verdict, and how many packets got it, by the counters alone."""
    for family, rules in counters.items():
        for table, chains in TABLES.items():
            for chain in chains:
                own = [row for row in rules if row[:2] == [table, chain]]
                seen = sum(packets for *_, rule, packets in own if "-j" not in rule)
                drops = sum(packets for *_, rule, packets in own if rule.split()[-1] in DROPS)
                drops += sum(packets for *_, rule, packets in own if "-j REJECT " in rule)
                yield (family, table, chain, "drop"), drops
                yield (family, table, chain, "accept"), seen - drops


@pytest.mark.parametrize("kernel", KERNELS)
def test_tables_hooks_and_verdicts_are_those_of_the_counters(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said: Verdicts = Counter(verdict(event) for event in events(kernel) if is_own(event))
    counted: Verdicts = Counter(dict(judged(step(kernel, "legacy")["counters"])))
    with capsys.disabled():
        print(f"\n{kernel}: {said.total()} verdicts of iptables-legacy, counted {counted.total()}")
    assert said == +counted
    sent = sum(range(LAST - FIRST + 2))
    for family in FAMILIES:
        assert said[family, "raw", "PREROUTING", "drop"] == 2
        assert said[family, "raw", "PREROUTING", "accept"] == sent - 2
        assert said[family, "filter", "INPUT", "drop"] == 1 + 4
        assert said[family, "filter", "OUTPUT", "accept"] >= 4, "no REJECT was sent"
        assert said[family, "nat", "INPUT", "accept"] > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_drop_carries_who_did_it(kernel: str) -> None:
    pending: dict[str, tuple[str, ...]] = {}
    found: Verdicts = Counter()
    for event in events(kernel):
        if is_own(event) and event["nft"]["verdict"] == "drop":
            pending[event["skb"]] = verdict(event)
        elif event["skb"] in pending and not is_own(event):
            assert event["type"] == "drop"
            assert verdict(event) == pending.pop(event["skb"])
            found[verdict(event)] += 1
    assert not pending
    assert found.total() == len(FAMILIES) * (1 + 2 + 3 + 4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_function_and_the_hook_are_named(kernel: str) -> None:
    own = [event for event in events(kernel) if is_own(event)]
    assert {(event["func"], event["nft"]["family"]) for event in own} == {
        ("ipt_do_table[ip_tables]", "ip"),
        ("ip6t_do_table[ip6_tables]", "ip6"),
    }
    hooks = {(e["nft"]["table"], e["nft"]["hook"], e["nft"]["priority"]) for e in own}
    assert hooks >= {
        ("raw", "prerouting", -300),
        ("mangle", "postrouting", -150),
        ("nat", "prerouting", -100),
        ("nat", "input", 100),
        ("filter", "input", 0),
    }


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_broute_drops_is_routed(kernel: str) -> None:
    found = [event for event in events(kernel, is_brouted=True) if "nft" in event]
    said = Counter(verdict(event) for event in found if event["nft"]["table"] == "broute")
    arrived = step(kernel, "legacy")["routed"]
    assert said == {("bridge", "broute", "BROUTING", "route"): arrived}
    assert arrived == MANY
    assert not any(event["nft"]["verdict"] == "drop" for event in found)
