"""Which packet a record is of, and when a packet has come to its end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pypwru.packets import tracker
from pypwru.packets.tracker import EndReason, SkbTracker, is_free_record, without_free_records
from pypwru.wire.fields import FUNCTION
from pypwru.wire.layout import record_layout
from pypwru.wire.record import Record, header_constants
from tests.support.records import NFT_CHAIN_EXIT, NFT_RULE, configured, packet
from tests.support.records import tail as tail_of

CONFIG = configured("--sample-rate 2")
END = header_constants()["EVENT_SKB_FREE"]
IP_RCV, FREES, TP = 3, 99, 98
NAMES = {IP_RCV: "ip_rcv", FREES: "kfree_skbmem", TP: "tp:consume_skb"}


def seen(skb: int, number: int = 0, at: int = 0, function: int = IP_RCV, kind: int = 0) -> Record:
    tail = tail_of(CONFIG, packet_id=number.to_bytes(8, "little"))
    return Record(packet(skb, 0, 7, kind), FUNCTION.pack(function, 0), at, b"", tail)


def ended(skb: int, number: int = 0) -> Record:
    return seen(skb, number, kind=END, function=0)


class Kept:
    """What was made of packets, and how each came to its end."""

    def __init__(self, most: int = tracker.MAX_SKBS) -> None:
        self.ended: list[tuple[list[int], EndReason]] = []
        self.lives: SkbTracker[list[int]] = SkbTracker(
            record_layout(CONFIG), NAMES, lambda record: [],
            lambda kept, why: self.ended.append((kept, why)),
            most,
        )  # fmt: skip

    def see(self, *batch: Record) -> None:
        for record in batch:
            kept = self.lives.observe(record)
            assert (kept is None) == is_free_record(record)
            if kept is not None:
                kept.append(record[2])
        self.lives.end_batch()


def test_what_is_no_sight_is_told_apart() -> None:
    batch = [seen(1), ended(1), seen(2)]
    assert [is_free_record(record) for record in batch] == [False, True, False]
    assert without_free_records(batch) == [batch[0], batch[2]]


def test_a_packet_ends_a_batch_after_it_was_told() -> None:
    kept = Kept()
    kept.see(seen(1, 5, at=1), seen(1, 5, at=2), ended(1, 5))
    assert kept.ended == []
    kept.see()
    assert kept.ended == [([1, 2], EndReason.FREED)]


def test_what_nftables_says_of_a_packet_that_it_freed_is_of_that_packet() -> None:
    kept = Kept()
    kept.see(seen(1, 5, at=1), ended(1, 5))
    kept.see(seen(1, 5, at=2, kind=NFT_RULE), seen(1, 0, at=3, kind=NFT_CHAIN_EXIT))
    assert kept.ended == [([1, 2, 3], EndReason.FREED)]


def test_what_nftables_says_of_another_packet_at_its_address_is_not() -> None:
    kept = Kept()
    kept.see(seen(1, 5, at=1), ended(1, 5))
    kept.see(seen(1, 6, at=2, kind=NFT_RULE))
    assert kept.ended == [([1], EndReason.FREED)]


def test_nor_does_it_end_the_packet_that_has_its_address_by_now() -> None:
    kept = Kept()
    kept.see(seen(1, 5, at=1), ended(1, 5), seen(1, 6, at=2), seen(1, 5, at=3, kind=NFT_CHAIN_EXIT))
    kept.see(seen(1, 6, at=4))
    kept.lives.end_all()
    assert [(each[0], why) for each, why in kept.ended] == [
        (1, EndReason.FREED),
        (2, EndReason.TRACE_ENDED),
    ]


def test_a_clone_at_the_address_of_what_it_was_made_of_is_another() -> None:
    kept = Kept()
    kept.see(seen(1, 5, at=1), ended(1, 5), seen(1, 5, at=2))
    assert kept.ended == [([1], EndReason.FREED)]


def test_another_packet_at_the_address_ends_the_one_before() -> None:
    kept = Kept()
    kept.see(seen(1, 5, at=1), seen(1, 6, at=2))
    assert kept.ended == [([1], EndReason.ADDRESS_REUSED)]
    kept.see(ended(1, 6), seen(1, 7, at=3))
    assert kept.ended[1:] == [([2], EndReason.FREED)]


def test_an_identity_can_become_known() -> None:
    kept = Kept()
    kept.see(seen(1, 0, at=1), seen(1, 5, at=2), seen(1, 0, at=3), seen(1, 6, at=4))
    assert kept.ended == [([1, 2, 3], EndReason.ADDRESS_REUSED)]


def test_a_function_that_frees_calls_others_a_tracepoint_does_not() -> None:
    kept = Kept()
    kept.see(seen(1, 5, at=1, function=FREES), seen(1, 5, at=2), ended(1, 5))
    kept.see(seen(2, 0, at=3, function=TP), seen(2, 0, at=4))
    assert kept.ended == [([3], EndReason.FREED), ([1, 2], EndReason.FREED)]


def test_an_end_of_what_nobody_knows_is_nothing() -> None:
    kept = Kept()
    kept.see(ended(1), seen(1, at=1))
    kept.see()
    assert kept.ended == []


def test_the_quietest_is_left_when_there_are_too_many() -> None:
    kept = Kept(most=2)
    kept.see(seen(1, 1, at=1), seen(2, 2, at=2), seen(1, 1, at=3), seen(3, 3, at=4))
    assert kept.ended == [([2], EndReason.EVICTED)]
    assert kept.lives.least_recent() == [1, 3]
    kept.lives.evict_least_recent()
    assert kept.ended[1:] == [([1, 3], EndReason.EVICTED)]
    assert kept.lives.get(seen(3)[0][:8]) == [4]
    kept.lives.remove(seen(3)[0][:8])
    assert kept.ended[2:] == [([4], EndReason.FREED)]
    kept.lives.evict_least_recent()
    assert kept.lives.least_recent() is None


def test_the_trace_ends_what_has_not_ended() -> None:
    kept = Kept()
    kept.see(seen(1, 1, at=1), seen(2, 2, at=2), ended(1, 1))
    assert kept.lives.states() == [[1], [2]]
    kept.lives.end_all()
    assert kept.ended == [([1], EndReason.FREED), ([2], EndReason.TRACE_ENDED)]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), max_size=20),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
)
def test_every_sight_is_of_its_packet(
    plan: list[tuple[int, int]], chance: object, size: int
) -> None:
    """Lives at three addresses, mixed; a third of them end without a word."""
    streams: dict[int, list[Record]] = {1: [], 2: [], 3: []}
    wanted: dict[int, list[int]] = {}
    for number, (skb, length) in enumerate(plan, start=1):
        wanted[number] = [number * 10 + step for step in range(length)]
        streams[skb] += [seen(skb, number, at) for at in wanted[number]]
        if number % 3:
            streams[skb].append(ended(skb, number))
    order = [skb for skb, stream in streams.items() for _ in stream]
    chance.shuffle(order)  # type: ignore[attr-defined]
    turns = {skb: iter(stream) for skb, stream in streams.items()}
    mixed = [next(turns[skb]) for skb in order]
    kept = Kept()
    for at in range(0, len(mixed), size):
        kept.see(*mixed[at : at + size])
    kept.lives.end_all()
    assert sorted(each for each, _ in kept.ended) == sorted(wanted.values())
