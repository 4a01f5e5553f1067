"""--drops on real kernels: as many drops as the kernel counts; and whole journeys."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from pypwru.discovery.skb_lifetime import DROP_WRAPPERS
from pypwru.nft.render import OTHER_HOOK
from tests.lab import results
from tests.lab.jobs.drops import (
    BAD_SUM,
    CLOSED,
    CLOSES,
    COUNTS,
    FULL,
    NFT,
    NO_PORT,
    NO_PORT6,
    NO_ROUTE,
    PASSES,
    REFUSALS,
    REFUSED,
    RP_FILTER,
    TTL,
    WAITING,
)
from tests.lab.kernels import Feature, names
from tests.lab.kernels import kernel as row
from tests.lab.main_job import logged

pytestmark = pytest.mark.lab
SUITE = "drops"
KERNELS = names(SUITE)

# Port of dropped packets -> the namespace and name of their counter, and their reasons on all
# kernels.
COUNTED = {
    NO_PORT: ("far", "UdpNoPorts", "NO_SOCKET"),
    NO_PORT6: ("far", "Udp6NoPorts", "NO_SOCKET"),
    BAD_SUM: ("far", "UdpInCsumErrors", "UDP_CSUM"),
    FULL: ("far", "UdpRcvbufErrors", "SOCKET_RCVBUFF"),
    RP_FILTER: ("far", "TcpExtIPReversePathFilter", "IP_RPFILTER|NOT_SPECIFIED"),
    TTL: ("router", "IpInHdrErrors", "IP_INHDR|NOT_SPECIFIED"),
    NO_ROUTE: ("router", "IpExtInNoRoutes", "IP_INNOROUTES|NOT_SPECIFIED"),
    REFUSED: ("far", "TcpOutRsts", "NO_SOCKET"),
}
RULE = "NETFILTER_DROP"
BY_NFTABLES = r"(nf_hook_slow|nft_do_chain\[nf_tables\])\+0x"
"""The dropping function: nf_hook_slow() for a verdict; newer nftables at once, with a reason."""


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def found(kernel: str) -> Any:
    return results.step(kernel, SUITE, "drops")


@pytest.fixture(scope="module")
def events(found: Any) -> list[dict[str, Any]]:
    assert found["status"] == 0, found["err"]
    return [json.loads(line) for line in found["out"].splitlines()]


def port(event: dict[str, Any]) -> int:
    number: int = event["tuple"]["dport"]
    return number


def test_drops_equal_counters_of_kernel(
    kernel: str,
    found: Any,
    events: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours = Counter(port(event) for event in events if "location" in event)
    theirs = {
        number: found["after"][where][word] - found["before"][where][word]
        for number, (where, word, _) in COUNTED.items()
    }
    theirs[NFT] = found["rule"]
    with capsys.disabled():
        print(f"\n{kernel}: {sum(ours.values())} drops; by port {dict(sorted(ours.items()))}")
    assert ours == theirs
    sent = {**COUNTS, FULL: COUNTS[FULL] - found["arrived"]}
    assert theirs == sent
    assert 0 < found["arrived"] < COUNTS[FULL]


def test_drops_have_reason_and_location(kernel: str, events: list[dict[str, Any]]) -> None:
    words = {number: word for number, (_, _, word) in COUNTED.items()} | {NFT: RULE}
    for event in events:
        if "location" in event:
            assert event["type"] == "drop"
            reason = event["func"].partition("(")[2].rstrip(")")
            reasons = row(kernel).has(Feature.DROP_REASONS)
            expected = f"SKB_DROP_REASON_({words[port(event)]})" if reasons else ""
            assert re.fullmatch(expected, reason), event
            assert re.fullmatch(r".+\+0x[0-9a-f]+", event["location"])


def test_only_dropped_packets_have_events(found: Any, events: list[dict[str, Any]]) -> None:
    assert {port(event) for event in events} == set(COUNTS)
    ids = Counter(event["packet_id"] for event in events if "location" in event)
    assert set(ids.values()) == {1}, "each packet is dropped once"
    order = [event["packet_id"] for event in events]
    assert set(order) == set(ids)
    runs = [one for one, before in zip(order, [None, *order], strict=False) if one != before]
    assert len(runs) == len(set(runs)), "a packet's lines are together"


def test_drop_names_its_rule(events: list[dict[str, Any]]) -> None:
    for event in events:
        if port(event) == NFT and "location" in event:
            assert event["nft"]["verdict"] == "drop"
            assert event["nft"]["table"] == "drops"
            assert re.match(BY_NFTABLES, event["location"])


def test_summary_adds_up(found: Any) -> None:
    done = {key: int(value) for key, value in logged(found["err"], "Done").items()}
    assert done["lost_ring_full"] == done["lost_pending"] == done["lost_free_events"] == 0
    assert done["produced"] == done["events"] + done["not_shown"]


@pytest.fixture(scope="module")
def journeys(kernel: str) -> list[str]:
    seen = results.step(kernel, SUITE, "journeys")
    assert seen["status"] == 0, seen["err"]
    output: str = seen["out"]
    return output.rstrip("\n").split("\n\n")


def test_journey_through_nat(journeys: list[str]) -> None:
    one = next(text for text in journeys if "203.0.113.1:80(tcp:SYN)" in text.partition("\n")[0])
    assert "NAT 192.0.2.1:4201->203.0.113.1:80(tcp:SYN) => " in one
    assert re.search(r"dev near0:\d+ => rtr0:\d+ \(netns \d+\)", one)
    assert re.search(r"dev rtr1:\d+ => far0:\d+ \(netns \d+\)", one)
    assert re.search(r"nft ip nat before  handle \d+ (dnat|accept)", one)


def test_journeys_have_outcomes(kernel: str, journeys: list[str]) -> None:
    # One of the step before can be freed in this one: from 5.19 on, by the CPU that allocated it,
    # when that receives the next packet.
    sent = [text for text in journeys if "dev near0" in text]
    udp = {
        number: next(text for text in sent if f":{number}(udp)" in text.partition("\n")[0])
        for number in (PASSES, NFT)
    }
    assert "  delivered to " in udp[PASSES].splitlines()[-1]
    last = udp[NFT].splitlines()[-1]
    assert last.startswith("  dropped: ")
    has_reasons = row(kernel).has(Feature.DROP_REASONS)
    what = f"SKB_DROP_REASON_{RULE}" if has_reasons else "kfree_skb"
    assert re.match(rf"  dropped: {what} at {BY_NFTABLES}", last)
    assert re.search(r" by inet drops input #\d+ drop$", last)
    assert all(text.count("\n  +") == int(text.split(" event")[0].split()[-1]) for text in journeys)


def test_drop_of_conntrack_names_no_rule(kernel: str) -> None:
    found = results.step(kernel, SUITE, "table_full")
    counted = sum(map(int, re.findall(r" drop=(\d+)", found["counted"])))
    assert counted
    lines = [json.loads(line) for line in found["out"].splitlines()]
    dropped = [one for one in lines if re.match(BY_NFTABLES, one.get("location", ""))]
    assert len(dropped) == counted
    if row(kernel).has(Feature.DROP_REASONS):
        assert {one["func"].partition("_REASON_")[2] for one in dropped} == {f"{RULE})"}
        assert [one["nft"] for one in dropped] == [{"no_rule": OTHER_HOOK}] * counted


def test_packet_dropped_by_capture_is_no_drop(kernel: str) -> None:
    found = results.step(kernel, SUITE, "refused_by_capture")
    lines = [json.loads(line) for line in found["out"].splitlines()]
    dropped = [one for one in lines if "location" in one]
    assert found["waited"] == WAITING, "the socket had all of them"
    assert Counter(map(port, dropped)) == {NO_PORT: REFUSALS, CLOSES: CLOSED}
    assert {port(one) for one in lines} == {NO_PORT, CLOSES}
    if row(kernel).has(Feature.DROP_REASONS):
        locations = {one["location"].partition("+")[0] for one in dropped}
        assert not locations.intersection(DROP_WRAPPERS)
