"""Only packets with a matching nft event, with their complete path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.discovery.targets import Targets
from pypwru.nft import packet_filter
from pypwru.nft.packet_filter import NftPacketFilter
from pypwru.packets.tracker import is_free_record
from pypwru.wire.fields import FUNCTION
from pypwru.wire.record import Record, header_constants
from tests.support import records
from tests.support.layouts import layout_of
from tests.support.records import NFT_CHAIN_EXIT, NFT_RULE, configured, packet

CONFIG = configured("--filter-nft-handle 12")
SKB_FREE = header_constants()["EVENT_SKB_FREE"]
FREES, OTHER = 0xFFFFFFFF81000010, 0xFFFFFFFF81000020
NAMES = {FREES: "kfree_skbmem", OTHER: "ip_rcv"}
MATCHES = records.nft(12)


def event(
    skb: int, number: int, at: int = 0, nft: bytes = b"", address: int = OTHER, kind: int = 0
) -> Record:
    parts = {"packet_id": number.to_bytes(8, "little"), **({"nft": nft} if nft else {})}
    tail = records.tail(CONFIG, **parts)
    return Record(packet(skb, 0, 7, kind), FUNCTION.pack(address, 0), at, b"", tail)


def free(skb: int, number: int) -> Record:
    return event(skb, number, address=0, kind=SKB_FREE)


class Stage:
    """The filter, and what it passed on."""

    def __init__(self) -> None:
        part = layout_of(CONFIG).parts["nft"]
        at = slice(part.offset, part.offset + len(MATCHES))
        self.passed: list[int] = []
        self.filter = NftPacketFilter(
            layout_of(CONFIG), lambda record: record[4][at] == MATCHES, Targets(NAMES)
        )

    def take(self, *batch: Record) -> list[int]:
        """Times of the events that are passed on when a batch is taken."""
        found = [record[2] for record in self.filter.take(batch) if not is_free_record(record)]
        self.passed += found
        return found


def test_a_match_passes_the_complete_path() -> None:
    stage = Stage()
    assert stage.take(event(1, 1, 1), event(2, 2, 2), event(1, 1, 3)) == []
    assert stage.take(event(1, 1, 4, MATCHES), event(2, 2, 5), event(1, 1, 6)) == [1, 3, 4, 6]
    assert stage.take(event(1, 1, 7), event(2, 2, 8)) == [7]


def test_free_records_are_passed_on() -> None:
    stage = Stage()
    batch = [event(1, 1, 1), free(1, 1), free(7, 7)]
    assert stage.filter.take(batch) == batch[1:]


def test_the_next_packet_at_an_address_is_another() -> None:
    stage = Stage()
    assert stage.take(event(1, 1, 1), event(1, 2, 2, MATCHES), event(1, 3, 3)) == [2]
    assert stage.take(event(2, 4, 4, MATCHES), free(2, 4), event(2, 4, 5)) == [4], "a clone"


def test_late_events_are_of_the_packet_that_their_rule_freed() -> None:
    stage = Stage()
    assert stage.take(event(1, 1, 1), event(1, 1, 2, address=FREES), free(1, 1)) == []
    late = event(1, 1, 3, MATCHES, kind=NFT_RULE), event(1, 1, 4, kind=NFT_CHAIN_EXIT)
    assert stage.take(event(1, 2, 5), *late, event(1, 2, 6)) == [1, 2, 3, 4]


def test_a_packet_may_wait_for_long() -> None:
    stage = Stage()
    assert stage.take(event(1, 1, 1)) == []
    assert stage.take(event(1, 1, 10**12, MATCHES)) == [1, 10**12]


def test_held_events_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "_MAX_HELD_EVENTS", 4)
    stage = Stage()
    stage.take(*(event(1, 1, at) for at in range(1, 4)), event(2, 2, 4), event(3, 3, 5))
    assert stage.filter.evicted_events == 3, "of the first packet"
    assert stage.take(event(1, 1, 6, MATCHES), event(2, 2, 7, MATCHES)) == [6, 4, 7]


def test_freed_packets_without_a_match_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "_MAX_HELD_EVENTS", 4)
    stage = Stage()
    for number in range(1, 100):
        stage.take(event(1, number), event(1, number), free(1, number))
    assert stage.filter.evicted_events == 0


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(0, 5)), max_size=20),
    st.randoms(use_true_random=False),
    st.integers(1, 7),
)
def test_exactly_the_matching_packets(
    plan: list[tuple[int, int, int]], chance: object, size: int
) -> None:
    """Packets at three addresses, mixed; event ``match`` of one, if it has so many, matches."""
    streams: dict[int, list[Record]] = {1: [], 2: [], 3: []}
    expected = []
    for number, (skb, length, match) in enumerate(plan, start=1):
        times = [number * 10 + step for step in range(length)]
        streams[skb] += [
            event(skb, number, at, MATCHES if step == match else b"")
            for step, at in enumerate(times)
        ]
        streams[skb].append(free(skb, number))
        expected += times * (match < length)
    order = [skb for skb, stream in streams.items() for _ in stream]
    chance.shuffle(order)  # type: ignore[attr-defined]
    turns = {skb: iter(stream) for skb, stream in streams.items()}
    mixed = [next(turns[skb]) for skb in order]
    stage = Stage()
    for at in range(0, len(mixed), size):
        stage.take(*mixed[at : at + size])
    assert sorted(stage.passed) == expected
    for number in {time // 10 for time in expected}:
        times = [time for time in stage.passed if time // 10 == number]
        assert times == sorted(times)
    assert stage.filter._held_events == sum(
        len(skb.held) for skb in stage.filter._tracker.tracked()
    )
