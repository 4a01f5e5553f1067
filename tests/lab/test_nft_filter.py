"""--filter-nft-* on a real kernel, compared with a run of all packets and with the rules
themselves.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.jobs.nft_filter import EACH, FIRST, LONG, OTHER, PORTS, RUNS
from tests.lab.kernels import REFERENCE
from tests.lab.main_job import step

pytestmark = pytest.mark.lab
SUITE = "main_job"


def events(kernel: str, name: str) -> list[dict[str, Any]]:
    seen = step(kernel, "nft_filter")[name]
    assert seen["status"] == 0
    return [json.loads(line) for line in seen["out"].splitlines()]


def by_port(found: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return the events of the packets to each of PORTS, in their order."""
    ports: dict[int, list[dict[str, Any]]] = {}
    for event in found:
        ports.setdefault(event["tuple"]["dport"], []).append(event)
    ports.pop(FIRST, None)
    return ports


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("kernel", [REFERENCE])
def test_selected_packets_have_whole_path(kernel: str, name: str) -> None:
    everything = by_port(events(kernel, "all"))
    assert list(everything) == list(PORTS)
    found = by_port(events(kernel, name))
    assert found == {port: everything[port] for port in RUNS[name][1]}


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_drop_names_rule_and_text(kernel: str) -> None:
    events_by_port = by_port(events(kernel, "text"))
    drops = [event for event in events_by_port[7101] if event["type"] == "drop"]
    assert len(drops) == EACH
    for drop in drops:
        assert drop["nft"]["path"] == ["input", "ports"]
        assert drop["nft"]["text"] == 'udp dport 7101 counter drop comment "no such port"'
        assert drop["nft"]["comment"] == "no such port"
        assert drop["func"].endswith("(SKB_DROP_REASON_NETFILTER_DROP)")


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_chain_is_matched_by_whole_name(kernel: str) -> None:
    packets = by_port(events(kernel, "long"))[7106]
    chains = [event["nft"]["chain"] for event in packets if event["type"] == "nft_rule"]
    assert {LONG, OTHER} <= set(chains)


@pytest.mark.parametrize("kernel", [REFERENCE])
def test_all_events_are_counted(kernel: str) -> None:
    for name in RUNS:
        (done,) = (
            line for line in step(kernel, "nft_filter")[name]["err"].splitlines() if "Done" in line
        )
        counters = dict(word.split("=") for word in done.split() if "=" in word)
        assert int(counters["events"]) == len(events(kernel, name))
        assert int(counters["events"]) + int(counters["not_shown"]) == int(counters["produced"])
        assert counters.get("lost_pending", "0") == "0"
