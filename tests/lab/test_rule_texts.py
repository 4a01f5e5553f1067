"""Texts of nftables' rules on real kernels: each event has that of its own rule, or none."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.lab import results
from tests.lab.jobs.rule_replacement import PORT, judged
from tests.lab.jobs.rule_texts import NAMES, PLACES, ROUNDS
from tests.lab.kernels import names

pytestmark = pytest.mark.lab
SUITE = "rule_texts"
KERNELS = names(SUITE)


def step(kernel: str, name: str) -> Any:
    return results.step(kernel, SUITE, name)


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_packet_has_the_texts_of_its_own_namespace(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = step(kernel, "same")
    assert seen["status"] == 0
    number_of = {inode: number for number, inode in enumerate(seen["inodes"], 1)}
    assert len(number_of) == PLACES
    events = [json.loads(line) for line in seen["out"].splitlines()]
    told = [
        (number_of[int(event["netns"])], event["type"], event["nft"])
        for event in events
        if event.get("nft", {}).get("rule_handle") and event["tuple"]["dport"] == PORT
    ]
    known = Counter(number for number, _, said in told if said["text"])
    for number, _, said in told:
        mark = f"meta mark != 0x{number:08x}"
        assert (said["text"], said.get("comment")) in (
            (f'udp dport {PORT} {mark} jump web comment "web of {number}"', f"web of {number}"),
            (f'{mark} counter drop comment "container {number}"', f"container {number}"),
            (None, None),
        )
    for number in number_of.values():
        types = [kind for each, kind, _ in told if each == number]
        assert types == ["nft_rule", "nft_rule", "drop"] * (len(types) // 3)
        assert known[number] >= 3 * ROUNDS
    handles = {(said["table"], said["chain"], said["rule_handle"]) for _, _, said in told}
    assert len(handles) == 2  # the same in all of them
    with capsys.disabled():
        print(
            f"\n{kernel}: {known.total()} texts in {PLACES} namespaces, 0 of another; "
            f"{len(told) - known.total()} not known yet"
        )


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_chain_has_the_name_that_it_had(kernel: str) -> None:
    seen = step(kernel, "renamed")
    assert seen["status"] == 0
    said = [one["nft"] for one in map(json.loads, seen["out"].splitlines()) if "nft" in one]
    own = [each for each in said if each["table"] == "renamed" and each.get("rule_handle")]
    jumps = [each["target"] for each in own if each["verdict"] == "jump"]
    drops = [each["chain"] for each in own if each["verdict"] == "drop"]
    assert jumps == list(NAMES)
    assert drops == [name for name in NAMES for _ in ("the rule", "the packet")]
    assert len({each["chain_handle"] for each in own if each["verdict"] == "drop"}) == 1


def test_the_judge_finds_a_text_of_another_ruleset() -> None:
    texts = ('meta mark 0x0000000a drop comment "drops 10"', "")
    events = [
        {"mark": mark, "nft": {"rule_handle": 3, "text": text}}
        for mark in (10, 11)
        for text in texts
    ]
    found = judged(events)
    assert found["examples"] == [events[2]]
    assert (found["known"], found["unknown"], found["wrong"]) == (2, 2, 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_text_is_anothers_while_rules_are_replaced(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = step(kernel, "replaced")
    with capsys.disabled():
        print(
            f"\n{kernel}: {seen['replacements']} replacements, {seen['rulesets']} of the rulesets "
            f"spoke: {seen['known']:,} events with text, of {seen['rulesets_by_text']} rulesets, "
            f"{seen['unknown']:,} of unknown text; {seen['wrong']} wrong"
        )
    assert seen["status"] == 0
    assert not seen["wrong"], seen["examples"]
    assert seen["rulesets"] > seen["replacements"] // 2
    assert seen["rulesets_by_text"] >= seen["replacements"] // 10
    assert seen["unknown"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_traced_rulesets_are_not_touched(kernel: str) -> None:
    before, during, after = step(kernel, "stopped")["listings"]
    assert before == during == after
    assert len(before) == PLACES + 1
    assert all("container" in listing for listing in before[1:])


@pytest.mark.step("killed")
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_rulesets_that_a_killed_run_traced_are_not_touched(kernel: str) -> None:
    before, during, traced, after = step(kernel, "killed")["listings"]
    assert before == during
    assert traced == after
    assert during != traced  # its rules' counters


@pytest.mark.step("killed")
@pytest.mark.parametrize("kernel", KERNELS)
def test_after_sigkill_nothing_is_left(kernel: str) -> None:
    seen = step(kernel, "killed")
    before, during, after = seen["calls"]
    assert (before, after) == (0, 0)
    assert during >= 40  # 20 packets, of which two rules spoke
    before, during, after = seen["namespaces"]
    assert before == after < during
