"""Rulesets that take each other's place, and what is said of their rules, judged by marks.

The first rule of each ruleset marks the packet with the ruleset's number, and what is said of the
packet from then on has that mark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.lab.jobs.tracer import Seen
from tests.lab.net.containers import Nft, Place

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


class Changing:
    """One ruleset after another; the mark that a rule gives tells of which one it is."""

    def __init__(self, place: Place) -> None:
        self._nft = Nft(place)
        self._handles: list[str] = []

    def load(self, number: int) -> None:
        """In one of the ways in which rules are replaced in one transaction."""
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


def judged(seen: Iterable[dict[str, Any]]) -> Seen:
    """Whether the texts are those of the ruleset that marked the packet; too many to be kept."""
    counts: Counter[str] = Counter()
    wrong: list[dict[str, Any]] = []
    by_text: set[int] = set()
    rulesets: set[int] = set()
    for event in seen:
        said = event.get("nft") or {}
        if not said.get("rule_handle"):
            continue
        mark = event["mark"]
        rulesets.add(mark)
        if not said.get("text"):
            counts["unknown"] += 1
            continue
        numbers = {int(each) for each in re.findall(r"(?:marks|drops) (\d+)", said["text"])}
        numbers |= {int(each, 16) for each in re.findall(r"0x([0-9a-f]{8})", said["text"])}
        counts["known"] += 1
        by_text.add(mark)
        if numbers != {mark}:
            wrong.append(event)
    return {
        **counts, "wrong": len(wrong), "examples": wrong[:10],
        "rulesets": len(rulesets), "rulesets_by_text": len(by_text),
    }  # fmt: skip
