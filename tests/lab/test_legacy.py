"""iptables-legacy on real kernels: the verdicts of packets against the rules' own counters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.jobs.legacy import BROUTED, FAMILIES, FIRST, LAST, MANY, TABLES
from tests.lab.kernels import Feature, names
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
    """Return whether it is the kernel's function's event, and not a later one of the packet."""
    return bool(event["type"] == "nft_rule")


def verdict(event: dict[str, Any]) -> tuple[str, ...]:
    return tuple(event["nft"][name] for name in ("family", "table", "chain", "verdict"))


def counted_verdicts(counters: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield family, table, chain, verdict, and how many packets got it, by the counters alone."""
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
def test_verdicts_equal_counters_of_rules(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts: Verdicts = Counter(verdict(event) for event in events(kernel) if is_own(event))
    counted: Verdicts = Counter(dict(counted_verdicts(step(kernel, "legacy")["counters"])))
    with capsys.disabled():
        print(
            f"\n{kernel}: {verdicts.total()} verdicts of iptables-legacy, counted {counted.total()}"
        )
    assert verdicts == +counted
    sent = sum(range(LAST - FIRST + 2))
    for family in FAMILIES:
        assert verdicts[family, "raw", "PREROUTING", "drop"] == 2
        assert verdicts[family, "raw", "PREROUTING", "accept"] == sent - 2
        assert verdicts[family, "filter", "INPUT", "drop"] == 1 + 4
        assert verdicts[family, "filter", "OUTPUT", "accept"] >= 4, "no REJECT was sent"
        assert verdicts[family, "nat", "INPUT", "accept"] > 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_drop_event_has_verdict_of_table(kernel: str) -> None:
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
def test_verdict_names_function_and_hook(kernel: str) -> None:
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


@pytest.mark.parametrize("kernel", names(SUITE, Feature.EBTABLES))
def test_drop_of_broute_is_verdict_route(kernel: str) -> None:
    found = [event for event in events(kernel, is_brouted=True) if "nft" in event]
    verdicts = Counter(verdict(event) for event in found if event["nft"]["table"] == "broute")
    arrived = step(kernel, "legacy")["routed"]
    assert verdicts == {("bridge", "broute", "BROUTING", "route"): arrived}
    assert arrived == MANY
    assert not any(event["nft"]["verdict"] == "drop" for event in found)
