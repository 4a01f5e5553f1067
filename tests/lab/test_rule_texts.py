"""Texts of nftables' rules on real kernels: each event has that of its own rule, or none."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.lab import results
from tests.lab.jobs.rule_replacement import PORT, check_marks
from tests.lab.jobs.rule_texts import CONTAINERS, NAMES, ROUNDS
from tests.lab.kernels import names

pytestmark = pytest.mark.lab
SUITE = "rule_texts"
KERNELS = names(SUITE)


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


@pytest.mark.parametrize("kernel", KERNELS)
def test_texts_are_of_packets_namespace(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = step(kernel, "same")
    assert result["status"] == 0
    number_of = {inode: number for number, inode in enumerate(result["inodes"], 1)}
    assert len(number_of) == CONTAINERS
    events = [json.loads(line) for line in result["out"].splitlines()]
    nft_events = [
        (number_of[int(event["netns"])], event["type"], event["nft"])
        for event in events
        if event.get("nft", {}).get("rule_handle") and event["tuple"]["dport"] == PORT
    ]
    known = Counter(number for number, _, nft in nft_events if nft["text"])
    for number, _, nft in nft_events:
        mark = f"meta mark != 0x{number:08x}"
        assert (nft["text"], nft.get("comment")) in (
            (f'udp dport {PORT} {mark} jump web comment "web of {number}"', f"web of {number}"),
            (f'{mark} counter drop comment "container {number}"', f"container {number}"),
            (None, None),
        )
    for number in number_of.values():
        types = [kind for each, kind, _ in nft_events if each == number]
        assert types == ["nft_rule", "nft_rule", "drop"] * (len(types) // 3)
        assert known[number] >= 3 * ROUNDS
    handles = {(nft["table"], nft["chain"], nft["rule_handle"]) for _, _, nft in nft_events}
    assert len(handles) == 2  # the same in all of them
    with capsys.disabled():
        print(
            f"\n{kernel}: {known.total()} texts in {CONTAINERS} namespaces, 0 of another; "
            f"{len(nft_events) - known.total()} not known yet"
        )


@pytest.mark.parametrize("kernel", KERNELS)
def test_chain_has_name_at_time_of_packet(kernel: str) -> None:
    result = step(kernel, "renamed")
    assert result["status"] == 0
    nft_objects = [
        one["nft"] for one in map(json.loads, result["out"].splitlines()) if "nft" in one
    ]
    own = [each for each in nft_objects if each["table"] == "renamed" and each.get("rule_handle")]
    jumps = [each["target"] for each in own if each["verdict"] == "jump"]
    drops = [each["chain"] for each in own if each["verdict"] == "drop"]
    assert jumps == list(NAMES)
    assert drops == [name for name in NAMES for _ in ("the rule", "the packet")]
    assert len({each["chain_handle"] for each in own if each["verdict"] == "drop"}) == 1


def test_check_finds_text_of_other_ruleset() -> None:
    texts = ('meta mark 0x0000000a drop comment "drops 10"', "")
    events = [
        {"mark": mark, "nft": {"rule_handle": 3, "text": text}}
        for mark in (10, 11)
        for text in texts
    ]
    found = check_marks(events)
    assert found["examples"] == [events[2]]
    assert (found["known"], found["unknown"], found["wrong"]) == (2, 2, 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_texts_are_right_while_rules_are_replaced(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = step(kernel, "replaced")
    with capsys.disabled():
        print(
            f"\n{kernel}: {result['replacements']} replacements, {result['rulesets']} of the "
            f"rulesets had events: {result['known']:,} events with text, of "
            f"{result['rulesets_by_text']} rulesets, "
            f"{result['unknown']:,} of unknown text; {result['wrong']} wrong"
        )
    assert result["status"] == 0
    assert not result["wrong"], result["examples"]
    assert result["rulesets"] > result["replacements"] // 2
    assert result["rulesets_by_text"] >= result["replacements"] // 10
    assert result["unknown"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_trace_leaves_rulesets_unchanged(kernel: str) -> None:
    before, during, after = step(kernel, "stopped")["listings"]
    assert before == during == after
    assert len(before) == CONTAINERS + 1
    assert all("container" in listing for listing in before[1:])


@pytest.mark.step("killed")
@pytest.mark.parametrize("kernel", KERNELS)
def test_killed_run_leaves_rulesets_unchanged(kernel: str) -> None:
    before, during, traced, after = step(kernel, "killed")["listings"]
    assert before == during
    assert traced == after
    assert during != traced  # its rules' counters


@pytest.mark.step("killed")
@pytest.mark.parametrize("kernel", KERNELS)
def test_sigkill_leaves_no_tracing_or_namespace(kernel: str) -> None:
    result = step(kernel, "killed")
    before, during, after = result["calls"]
    assert (before, after) == (0, 0)
    assert during >= 40  # 20 packets, each with events of two rules
    before, during, after = result["namespaces"]
    assert before == after < during
