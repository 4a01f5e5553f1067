"""Statistics of records, with free records, clones and reused addresses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pypwru.discovery.targets import Targets
from pypwru.kernel.bpf_info import RunStats
from pypwru.packets.count import PacketCounter
from pypwru.statistics.document import render_document
from pypwru.statistics.flows import Flow, Flows
from pypwru.statistics.latencies import LatencyReservoir
from pypwru.statistics.latency_tracker import LatencyTracker
from pypwru.statistics.report import render_report
from pypwru.statistics.summary import HopLatency, RunCounters, Statistics, Summary
from pypwru.wire.record import EVENT_MEMBERS, Record, header_constants
from tests.oracles.recount import latency
from tests.support import records
from tests.support.layouts import layout_of

SCHEMA = json.loads(resources.files("pypwru.data").joinpath("statistics.schema.json").read_text())
CONFIG = records.configured("--stats")
LAYOUT = layout_of(CONFIG)
UDP_OUT = (4, records.UDP, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 4001, 53)
UDP_BACK = (4, records.UDP, bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1]), 53, 4001)
FREED, DROPPING, RECEIVED, SENT = 4, 5, 3, 1  # of records.FUNCTIONS
SKB_FREE = header_constants()["EVENT_SKB_FREE"]
COUNTERS = {"events": 1, "produced": 1, "lost_ring_full": 0, "not_shown": 0}


def make_event(
    function: int, time: int, skb: int = 0x100, packet_id: int = 1, reason: int = 0, cpu: int = 0,
    ends: records.Ends = UDP_OUT, caller: int = 0, nft: bytes = b"", kind: int = 0,
) -> Record:  # fmt: skip
    parts = {"packet_id": packet_id.to_bytes(8, "little"), "caller": records.caller(caller)}
    tail = records.tail(CONFIG, **parts, **({"nft": nft} if nft else {}))
    packet = records.packet(skb, cpu, 1, kind)
    return records.event(packet, function, records.flow(ends=ends), time, reason, tail)


def free_record(skb: int = 0x100, packet_id: int = 1) -> Record:
    nothing = bytes(len(records.flow()))
    tail = records.tail(CONFIG, packet_id=packet_id.to_bytes(8, "little"))
    return records.event(records.packet(skb, 0, 0, SKB_FREE), 0, nothing, 0, 0, tail)


def summarize(*batches: Sequence[Record], counters: dict[str, int] = COUNTERS) -> Summary:
    times = iter((0, 2_000_000_000))
    statistics = Statistics(
        LAYOUT, records.names(), Targets(records.FUNCTIONS), lambda: 10**18, lambda: next(times)
    )
    for batch in batches:
        statistics.show(batch)
    return statistics.summary(
        RunCounters(counters, {}, {"trace_skb": RunStats(9000, 3)}), is_final=True
    )


def track_latencies(*batches: Sequence[Record], max_skbs: int = 1 << 16) -> LatencyTracker:
    tracker = LatencyTracker(LAYOUT, Targets(records.FUNCTIONS), max_skbs)
    for batch in batches:
        tracker.add(batch)
    return tracker


def test_packet_is_all_with_its_packet_id() -> None:
    found = summarize(
        [make_event(SENT, 10), make_event(SENT, 14, skb=0x200), make_event(RECEIVED, 30, skb=0x200)]
    )
    assert found.packets == 1
    assert found.latency
    assert (found.latency.max, found.latency.packets) == (20, 1)
    assert found.hops == [HopLatency("ip_output", "ip_rcv", 1, 16, 16)], "of one sk_buff"


def test_reused_address_is_another_packet() -> None:
    found = summarize(
        [make_event(SENT, 10), free_record()], [make_event(RECEIVED, 90, packet_id=2)]
    )
    assert found.packets == 2
    assert found.latency
    assert found.latency.max == 0
    assert found.hops == []


def test_nft_event_after_free_is_of_the_packet() -> None:
    rule = make_event(14, 12, nft=records.nft(12), kind=records.NFT_RULE)
    found = summarize(
        [make_event(SENT, 10), free_record()], [rule], [make_event(SENT, 90, packet_id=2)]
    )
    assert found.packets == 2
    assert [hop.max for hop in found.hops] == [2]


CLONE, RETRANSMIT = 0x200, 9


@pytest.mark.parametrize("freed", [free_record(CLONE), make_event(10, 20, CLONE)])
def test_retransmission_is_no_hop(freed: Record) -> None:
    """Its clones have one address, and are of one packet (tcp_transmit_skb)."""
    names = records.FUNCTIONS | {10: "tp:consume_skb"}
    tracker = LatencyTracker(LAYOUT, Targets(names))
    tracker.add(
        [make_event(2, 1), make_event(SENT, 5, CLONE), make_event(RECEIVED, 15, CLONE), freed]
    )
    again = 200_000_000
    tracker.add(
        [
            make_event(RETRANSMIT, again),
            make_event(2, again + 1),
            make_event(SENT, again + 5, CLONE),
            freed,
        ]
    )
    hops = [hop for to in tracker.hops_by_source.values() for hop in to.values()]
    assert max(longest for _, _, longest in hops) <= 10
    assert tracker.packets == 1
    latency = tracker.latency()
    assert latency
    assert latency.max == again + 4, "the packet's latency includes it"


def test_hops_are_per_sk_buff() -> None:
    found = summarize([make_event(SENT, 1), make_event(SENT, 2, CLONE), make_event(RECEIVED, 9)])
    assert [(hop.source, hop.target, hop.max) for hop in found.hops] == [("ip_output", "ip_rcv", 8)]


def test_socket_message_is_no_drop() -> None:
    message = make_event(DROPPING, 1, reason=records.NO_SOCKET)
    message = message._replace(flow=records.flow(protocol=0, is_message=True))
    found = summarize([message, make_event(DROPPING, 2, 0x300, 2, reason=records.NO_SOCKET)])
    assert [row.drops for row in found.drops] == [1]
    assert found.events == 2


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.booleans()), max_size=40),
    st.integers(1, 3),
)
def test_packets_equal_those_of_packet_counter(
    plan: list[tuple[int, int, bool]], max_skbs: int
) -> None:
    """Also if few sk_buffs are tracked at a time: an evicted packet is not counted again."""
    tracker = LatencyTracker(LAYOUT, Targets(records.FUNCTIONS), max_skbs)
    counter = PacketCounter(LAYOUT)
    for skb, packet_id, is_free in plan:
        batch = [free_record(skb, packet_id) if is_free else make_event(SENT, 1, skb, packet_id)]
        tracker.add(batch)
        counter.add(batch)
    assert tracker.packets == counter.total
    assert tracker.packets == len({packet_id for _, packet_id, is_free in plan if not is_free})


def test_unordered_events_have_no_negative_times() -> None:
    found = summarize([make_event(SENT, 20), make_event(RECEIVED, 10), make_event(SENT, 25)])
    assert found.latency
    assert found.latency.max == 15
    assert [(hop.source, hop.max) for hop in found.hops] == [("ip_rcv", 15), ("ip_output", 0)]


def test_evicted_packets_are_counted() -> None:
    batches = [[make_event(SENT, n, skb=n * 0x100, packet_id=n)] for n in range(1, 9)]
    tracker = track_latencies(*batches, max_skbs=2)
    assert tracker.packets == 8
    assert tracker.evicted > 0
    latency = tracker.latency()
    assert latency
    assert latency.packets == 8, "their latencies are kept"


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300))
def test_percentiles_equal_a_recount(latencies: list[int]) -> None:
    reservoir = LatencyReservoir()
    for nanoseconds in latencies[: len(latencies) // 2]:
        reservoir.add(nanoseconds)
    found = reservoir.percentiles_with(latencies[len(latencies) // 2 :])
    assert found
    expected = latency(list(latencies))
    assert [found.p50, found.p90, found.p99, found.max] == [
        expected[f"{name}_ns"] for name in ("p50", "p90", "p99", "max")
    ]
    assert found.is_exact


def test_reservoir_is_fair() -> None:
    size = 1000
    reservoir = LatencyReservoir(size)
    for nanoseconds in range(20 * size):
        reservoir.add(nanoseconds)
    found = reservoir.percentiles()
    assert found
    assert not found.is_exact
    assert (found.packets, found.max) == (20 * size, 20 * size - 1)
    assert found.p50 == pytest.approx(10 * size, rel=0.25)  # 16 standard deviations


def test_flow_has_both_directions() -> None:
    found = summarize(
        [make_event(SENT, 1), make_event(SENT, 2, ends=UDP_BACK), make_event(SENT, 3)]
    )
    assert found.flows == 1
    assert found.top_flows == [Flow("10.0.0.1:4001", "10.0.0.2:53", "udp", 3)]


def test_events_over_max_flows_are_counted() -> None:
    flows = Flows(max_flows=1)
    flows.add([ends(1), ends(2), ends(2), ends(1)])
    assert (len(flows), flows.events_over_limit) == (1, 2)


def ends(port: int) -> bytes:
    addresses = bytes(16) + b"\1".ljust(16, b"\0")
    return bytes([4, 17]) + addresses + port.to_bytes(2, "big") + bytes(2)


def test_nested_drops_are_one() -> None:
    inner = make_event(9, 1_001, reason=records.NO_SOCKET, caller=0xFFFFFFFF81000020)
    outer = make_event(DROPPING, 1_000, reason=records.NO_SOCKET, caller=0xFFFFFFFF81000010)
    found = summarize([outer, inner])
    assert [(row.drop.reason, row.drops, row.events) for row in found.drops] == [
        ("SKB_DROP_REASON_NO_SOCKET", 1, 1),
        ("SKB_DROP_REASON_NO_SOCKET", 0, 1),
    ]


def test_rules_are_counted_by_verdict() -> None:
    rule, policy = records.nft(12), records.nft(type=records.POLICY, verdict=records.ACCEPT)
    kind = records.NFT_RULE
    batch = [make_event(14, 1, nft=part, kind=kind) for part in (rule, policy, rule)]
    found = summarize(batch)
    assert [
        (row.rule.handle, row.rule.policy, row.rule.verdict, row.events) for row in found.rules
    ] == [
        (12, False, "drop", 2),
        (None, True, "accept", 1),
    ]
    assert found.rules[0].rule.text == records.RULES[12][0]


@pytest.mark.parametrize(
    "batch", [[], [make_event(SENT, 1), make_event(DROPPING, 5, reason=3), free_record()]]
)
def test_document_is_valid(batch: list[Record]) -> None:
    found = json.loads(render_document(summarize(batch)))
    Draft202012Validator(SCHEMA).validate(found)
    assert found["began"] == "2001-09-09T01:46:40.000000+00:00"
    assert found["complete"]


def test_report_has_losses_of_statistics() -> None:
    text = render_report(summarize([make_event(SENT, 1), make_event(RECEIVED, 1_500)]))
    assert "INCOMPLETE" not in text
    assert "drops" not in text
    assert "first to its last event: p50 1.50 us" in text
    lossy = COUNTERS | {"lost_ring_full": 1234, "throttled": 7, "lost_packets": 3}
    text = render_report(summarize([make_event(SENT, 1)], counters=lossy))
    assert "INCOMPLETE" in text
    assert "    1,234 events found no room in the ring" in text
    assert "    7 events over --max-hits" in text
    assert "3 lost_packets" not in text, "statistics miss nothing of a pcap"


def test_offset_of_ports_is_that_of_the_wire() -> None:
    assert EVENT_MEMBERS["dport"].offset - EVENT_MEMBERS["l3"].offset == 36
