"""What is counted of records, with ends, clones, and addresses that are given again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pypwru.kernel.bpf_info import RunStats
from pypwru.packets.count import PacketCounter
from pypwru.statistics.document import render_document
from pypwru.statistics.flows import Flow, Flows
from pypwru.statistics.latencies import LatencyReservoir
from pypwru.statistics.latency_tracker import LatencyTracker
from pypwru.statistics.report import render_report
from pypwru.statistics.summary import HopLatency, RunCounters, Statistics, Summary
from pypwru.wire.layout import record_layout
from pypwru.wire.record import EVENT_MEMBERS, Record, header_constants
from tests.oracles.recount import latency
from tests.support import records

SCHEMA = json.loads(resources.files("pypwru.data").joinpath("statistics.schema.json").read_text())
CONFIG = records.configured("--stats")
UDP_OUT = (4, records.UDP, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]), 4001, 53)
UDP_BACK = (4, records.UDP, bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1]), 53, 4001)
FREED, DROPPING, RECEIVED, SENT = 4, 5, 3, 1  # of records.FUNCTIONS
END = header_constants()["EVENT_SKB_FREE"]
ACCOUNT = {"events": 1, "produced": 1, "lost_ring_full": 0, "not_shown": 0}


def sight(
    function: int, time: int, skb: int = 0x100, number: int = 1, reason: int = 0, cpu: int = 0,
    ends: records.Ends = UDP_OUT, caller: int = 0, nft: bytes = b"", kind: int = 0,
) -> Record:  # fmt: skip
    parts = {"packet_id": number.to_bytes(8, "little"), "caller": records.caller(caller)}
    tail = records.tail(CONFIG, **parts, **({"nft": nft} if nft else {}))
    packet = records.packet(skb, cpu, 1, kind)
    return records.event(packet, function, records.flow(ends=ends), time, reason, tail)


def end(skb: int = 0x100, number: int = 1) -> Record:
    nothing = bytes(len(records.flow()))
    tail = records.tail(CONFIG, packet_id=number.to_bytes(8, "little"))
    return records.event(records.packet(skb, 0, 0, END), 0, nothing, 0, 0, tail)


def summed(*batches: Sequence[Record], account: dict[str, int] = ACCOUNT) -> Summary:
    times = iter((0, 2_000_000_000))
    made = Statistics(
        CONFIG, records.names(), records.FUNCTIONS, lambda: 10**18, lambda: next(times)
    )
    for batch in batches:
        made.show(batch)
    return made.summary(RunCounters(account, {}, {"trace_skb": RunStats(9000, 3)}), is_final=True)


def ways(*batches: Sequence[Record], alive: int = 1 << 16) -> LatencyTracker:
    made = LatencyTracker(record_layout(CONFIG), records.FUNCTIONS, alive)
    for batch in batches:
        made.add(batch)
    return made


def test_a_packet_is_all_that_has_its_number() -> None:
    found = summed([sight(SENT, 10), sight(SENT, 14, skb=0x200), sight(RECEIVED, 30, skb=0x200)])
    assert found.packets == 1
    assert found.latency
    assert (found.latency.max, found.latency.packets) == (20, 1)
    assert found.hops == [HopLatency("ip_output", "ip_rcv", 1, 16, 16)], "of one sk_buff"


def test_an_address_that_is_given_again_is_another_packet() -> None:
    found = summed([sight(SENT, 10), end()], [sight(RECEIVED, 90, number=2)])
    assert found.packets == 2
    assert found.latency
    assert found.latency.max == 0
    assert found.hops == []


def test_what_nftables_tells_behind_the_end_is_still_of_the_packet() -> None:
    rule = sight(14, 12, nft=records.nft(12), kind=records.NFT_RULE)
    found = summed([sight(SENT, 10), end()], [rule], [sight(SENT, 90, number=2)])
    assert found.packets == 2
    assert [hop.max for hop in found.hops] == [2]


CLONE, RETRANSMIT = 0x200, 9


@pytest.mark.parametrize("freed", [end(CLONE), sight(10, 20, CLONE)])
def test_no_hop_is_the_time_until_a_segment_is_sent_anew(freed: Record) -> None:
    """Its clones have one address, and are of one packet (tcp_transmit_skb)."""
    names = records.FUNCTIONS | {10: "tp:consume_skb"}
    made = LatencyTracker(record_layout(CONFIG), names)
    made.add([sight(2, 1), sight(SENT, 5, CLONE), sight(RECEIVED, 15, CLONE), freed])
    again = 200_000_000
    made.add([sight(RETRANSMIT, again), sight(2, again + 1), sight(SENT, again + 5, CLONE), freed])
    hops = [hop for to in made.hops_by_source.values() for hop in to.values()]
    assert max(longest for _, _, longest in hops) <= 10
    assert made.packets == 1
    latency = made.latency()
    assert latency
    assert latency.max == again + 4, "which is the packet's all the same"


def test_what_waits_beside_a_clone_that_is_there_has_its_hop() -> None:
    found = summed([sight(SENT, 1), sight(SENT, 2, CLONE), sight(RECEIVED, 9)])
    assert [(hop.source, hop.target, hop.max) for hop in found.hops] == [("ip_output", "ip_rcv", 8)]


def test_a_message_of_a_socket_is_no_packet_that_was_dropped() -> None:
    message = sight(DROPPING, 1, reason=records.NO_SOCKET)
    message = message._replace(flow=records.flow(protocol=0, is_message=True))
    found = summed([message, sight(DROPPING, 2, 0x300, 2, reason=records.NO_SOCKET)])
    assert [row.drops for row in found.drops] == [1]
    assert found.events == 2


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.booleans()), max_size=40),
    st.integers(1, 3),
)
def test_packets_are_those_of_the_last_line(
    plan: list[tuple[int, int, bool]], max_skbs: int
) -> None:
    """Few of their sk_buffs are tracked at a time; a packet that comes again is no other."""
    tracker = LatencyTracker(record_layout(CONFIG), records.FUNCTIONS, max_skbs)
    counter = PacketCounter(record_layout(CONFIG))
    for skb, number, is_free in plan:
        batch = [end(skb, number) if is_free else sight(SENT, 1, skb, number)]
        tracker.add(batch)
        counter.add(batch)
    assert tracker.packets == counter.total
    assert tracker.packets == len({number for _, number, is_free in plan if not is_free})


def test_order_of_cpus_makes_no_time_negative() -> None:
    found = summed([sight(SENT, 20), sight(RECEIVED, 10), sight(SENT, 25)])
    assert found.latency
    assert found.latency.max == 15
    assert [(hop.source, hop.max) for hop in found.hops] == [("ip_rcv", 15), ("ip_output", 0)]


def test_quiet_packets_are_let_go_of_and_counted() -> None:
    batches = [[sight(SENT, n, skb=n * 0x100, number=n)] for n in range(1, 9)]
    made = ways(*batches, alive=2)
    assert made.packets == 8
    assert made.evicted > 0
    ranks = made.latency()
    assert ranks
    assert ranks.packets == 8, "their times are kept"


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300))
def test_ranks_are_those_of_a_recount(taken: list[int]) -> None:
    made = LatencyReservoir()
    for nanoseconds in taken[: len(taken) // 2]:
        made.add(nanoseconds)
    found = made.percentiles_with(taken[len(taken) // 2 :])
    assert found
    asked = latency(list(taken))
    assert [found.p50, found.p90, found.p99, found.max] == [
        asked[f"{name}_ns"] for name in ("p50", "p90", "p99", "max")
    ]
    assert found.is_exact


def test_a_sample_is_fair_and_said() -> None:
    kept = 1000
    made = LatencyReservoir(kept)
    for nanoseconds in range(20 * kept):
        made.add(nanoseconds)
    found = made.percentiles()
    assert found
    assert not found.is_exact
    assert (found.packets, found.max) == (20 * kept, 20 * kept - 1)
    assert found.p50 == pytest.approx(10 * kept, rel=0.25)  # 16 standard deviations


def test_a_flow_has_both_directions() -> None:
    found = summed([sight(SENT, 1), sight(SENT, 2, ends=UDP_BACK), sight(SENT, 3)])
    assert found.flows == 1
    assert found.top_flows == [Flow("10.0.0.1:4001", "10.0.0.2:53", "udp", 3)]


def test_flows_beyond_the_most_are_counted() -> None:
    made = Flows(max_flows=1)
    made.add([ends(1), ends(2), ends(2), ends(1)])
    assert (len(made), made.events_over_limit) == (1, 2)


def ends(port: int) -> bytes:
    addresses = bytes(16) + b"\1".ljust(16, b"\0")
    return bytes([4, 17]) + addresses + port.to_bytes(2, "big") + bytes(2)


def test_one_drop_is_told_of_by_those_who_call_each_other() -> None:
    inner = sight(9, 1_001, reason=records.NO_SOCKET, caller=0xFFFFFFFF81000020)
    outer = sight(DROPPING, 1_000, reason=records.NO_SOCKET, caller=0xFFFFFFFF81000010)
    found = summed([outer, inner])
    assert [(row.drop.reason, row.drops, row.events) for row in found.drops] == [
        ("SKB_DROP_REASON_NO_SOCKET", 1, 1),
        ("SKB_DROP_REASON_NO_SOCKET", 0, 1),
    ]


def test_rules_are_counted_by_verdict() -> None:
    rule, policy = records.nft(12), records.nft(type=records.POLICY, verdict=records.ACCEPT)
    kind = records.NFT_RULE
    batch = [sight(14, 1, nft=part, kind=kind) for part in (rule, policy, rule)]
    found = summed(batch)
    assert [
        (row.rule.handle, row.rule.policy, row.rule.verdict, row.events) for row in found.rules
    ] == [
        (12, False, "drop", 2),
        (None, True, "accept", 1),
    ]
    assert found.rules[0].rule.text == records.RULES[12][0]


@pytest.mark.parametrize("batch", [[], [sight(SENT, 1), sight(DROPPING, 5, reason=3), end()]])
def test_a_document_is_valid(batch: list[Record]) -> None:
    found = json.loads(render_document(summed(batch)))
    Draft202012Validator(SCHEMA).validate(found)
    assert found["began"] == "2001-09-09T01:46:40.000000+00:00"
    assert found["complete"]


def test_the_report_says_what_is_missing_and_no_more() -> None:
    text = render_report(summed([sight(SENT, 1), sight(RECEIVED, 1_500)]))
    assert "INCOMPLETE" not in text
    assert "drops" not in text
    assert "first to its last event: p50 1.50 us" in text
    lossy = ACCOUNT | {"lost_ring_full": 1234, "throttled": 7, "lost_packets": 3}
    text = render_report(summed([sight(SENT, 1)], account=lossy))
    assert "INCOMPLETE" in text
    assert "    1,234 events found no room in the ring" in text
    assert "    7 events over --max-hits" in text
    assert "3 lost_packets" not in text, "statistics miss nothing of a pcap"


def test_the_slice_of_ends_is_that_of_the_wire() -> None:
    assert EVENT_MEMBERS["dport"].offset - EVENT_MEMBERS["l3"].offset == 36
