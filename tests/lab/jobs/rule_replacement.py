"""Rulesets that replace each other, and the texts of their rules, checked by marks.

The first rule of each ruleset marks the packet with the ruleset's number, which later events of the
packet have as their mark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.lab.jobs.tracer import StepResult
from tests.lab.net.containers import Container, Nft

PORT = 7009
_CHANGING = """
table inet t {{
    chain in {{
        type filter hook input priority filter; policy accept;
        {marks}
        {drops}
    }}
}}
"""


class ChangingRuleset:
    """One ruleset after another; the mark that a rule sets is the number of its ruleset."""

    def __init__(self, container: Container) -> None:
        self._nft = Nft(container)
        self._handles: list[str] = []

    def load(self, number: int) -> None:
        """Load the next in one of the ways in which rules are replaced in one transaction."""
        marks = f'udp dport {PORT} meta mark set {number} comment "marks {number}"'
        drops = f'meta mark {number} drop comment "drops {number}"'
        whole = _CHANGING.format(marks=marks, drops=drops)
        way = number % 5
        if way < 3:
            first = ("flush ruleset", "delete table inet t", "flush chain inet t in")
            self._nft.run(f"{first[way]}\n{whole}")
            return
        if way == 3:
            self._handles = re.findall(r'" # handle (\d+)', self._nft.run("list table inet t"))
        each = zip(self._handles, (marks, drops), strict=True)
        self._nft.run("\n".join(f"replace rule inet t in handle {h} {rule}" for h, rule in each))


def check_marks(events_: Iterable[dict[str, Any]]) -> StepResult:
    """Check that texts are those of the ruleset that marked the packet; the events are too many to
    keep.
    """
    counts: Counter[str] = Counter()
    wrong: list[dict[str, Any]] = []
    by_text: set[int] = set()
    rulesets: set[int] = set()
    for event in events_:
        nft = event.get("nft") or {}
        if not nft.get("rule_handle"):
            continue
        mark = event["mark"]
        rulesets.add(mark)
        if not nft.get("text"):
            counts["unknown"] += 1
            continue
        numbers = {int(each) for each in re.findall(r"(?:marks|drops) (\d+)", nft["text"])}
        numbers |= {int(each, 16) for each in re.findall(r"0x([0-9a-f]{8})", nft["text"])}
        counts["known"] += 1
        by_text.add(mark)
        if numbers != {mark}:
            wrong.append(event)
    return {
        **counts, "wrong": len(wrong), "examples": wrong[:10],
        "rulesets": len(rulesets), "rulesets_by_text": len(by_text),
    }  # fmt: skip
