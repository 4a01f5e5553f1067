"""--filter-nft-* on a real kernel, against a run of all packets and the rules themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.jobs.nft_chosen import EACH, PORTS, RUNS
from tests.lab.main_job import BOOTS as BOOTS
from tests.lab.main_job import DEEP, step

pytestmark = pytest.mark.lab


def events(name: str) -> list[dict[str, Any]]:
    seen = step(DEEP, "chosen")[name]
    assert seen["status"] == 0
    return [json.loads(line) for line in seen["out"].splitlines()]


def by_port(found: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """What was seen of the packets to each port, in its order."""
    ports: dict[int, list[dict[str, Any]]] = {}
    for event in found:
        ports.setdefault(event["tuple"]["dport"], []).append(event)
    return ports


@pytest.mark.parametrize("name", RUNS)
def test_packets_of_such_a_rule_are_shown_with_their_whole_path(name: str) -> None:
    everything = by_port(events("all"))
    assert list(everything) == list(PORTS)
    assert by_port(events(name)) == {port: everything[port] for port in RUNS[name][1]}


def test_the_drop_names_its_rule_and_its_text() -> None:
    drops = [event for event in events("text") if event["type"] == "drop"]
    assert len(drops) == EACH
    for drop in drops:
        assert drop["nft"]["path"] == ["input", "ports"]
        assert drop["nft"]["text"] == 'udp dport 7101 counter drop comment "no such port"'
        assert drop["nft"]["comment"] == "no such port"
        assert drop["func"].endswith("(SKB_DROP_REASON_NETFILTER_DROP)")


def test_all_sights_are_accounted_for() -> None:
    for name in RUNS:
        (done,) = (
            line for line in step(DEEP, "chosen")[name]["err"].splitlines() if "Done" in line
        )
        told = dict(word.split("=") for word in done.split() if "=" in word)
        assert int(told["events"]) == len(events(name))
        assert int(told["events"]) + int(told["not_shown"]) == int(told["produced"])
        assert told.get("lost_held", "0") == "0"
