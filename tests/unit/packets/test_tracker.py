"""Which record is of which sk_buff, and when an sk_buff is no longer tracked."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from pypwru.discovery.targets import Targets
from pypwru.packets import tracker
from pypwru.packets.tracker import (
    EndReason,
    FreeKind,
    FreeKinds,
    SkbTracker,
    TrackedSkb,
    is_free_record,
    without_free_records,
)
from pypwru.wire.fields import FUNCTION
from pypwru.wire.record import Record, header_constants
from tests.support.layouts import layout_of
from tests.support.records import NFT_CHAIN_EXIT, NFT_RULE, configured, packet
from tests.support.records import tail as tail_of

CONFIG = configured("--sample-rate 2")
SKB_FREE = header_constants()["EVENT_SKB_FREE"]
IP_RCV, FREES, TP = 3, 99, 98
NAMES = {IP_RCV: "ip_rcv", FREES: "kfree_skbmem", TP: "tp:consume_skb"}


def event(
    skb: int, packet_id: int = 1, at: int = 0, function: int = IP_RCV, kind: int = 0
) -> Record:
    tail = tail_of(CONFIG, packet_id=packet_id.to_bytes(8, "little"))
    return Record(packet(skb, 0, 7, kind), FUNCTION.pack(function, 0), at, b"", tail)


def free(skb: int, packet_id: int = 1) -> Record:
    return event(skb, packet_id, kind=SKB_FREE, function=0)


class Times(TrackedSkb):
    """Times of the events of an sk_buff."""

    def __init__(self, skb: bytes, packet_id: bytes, record: object) -> None:
        super().__init__(skb, packet_id)
        self.times: list[int] = []


class Tracked:
    """A tracker, and what it reported."""

    def __init__(self, max_skbs: int = tracker.MAX_SKBS) -> None:
        self.ended: list[tuple[list[int], EndReason]] = []
        self.skbs: SkbTracker[Times] = SkbTracker(
            layout_of(CONFIG), Targets(NAMES), Times, self._on_end, max_skbs
        )

    def _on_end(self, skb: Times, reason: EndReason) -> None:
        self.ended.append((skb.times, reason))

    def process(self, *batch: Record) -> None:
        for record in batch:
            skb = self.skbs.observe(record)
            if not is_free_record(record):
                assert skb
                skb.times.append(record[2])
        self.skbs.end_batch()

    def times(self) -> list[list[int]]:
        """Of all that are tracked."""
        return [skb.times for skb in self.skbs.tracked()]


def test_free_records_are_no_events() -> None:
    batch = [event(1), free(1), event(2)]
    assert [is_free_record(record) for record in batch] == [False, True, False]
    assert without_free_records(batch) == [batch[0], batch[2]]


def test_an_skb_ends_a_batch_after_its_free() -> None:
    tracked = Tracked()
    tracked.process(event(1, 5, at=1), event(1, 5, at=2), free(1, 5))
    assert tracked.ended == []
    tracked.process()
    assert tracked.ended == [([1, 2], EndReason.FREED)]


def test_late_nft_events_are_of_the_freed_skb() -> None:
    tracked = Tracked()
    tracked.process(event(1, 5, at=1), free(1, 5))
    tracked.process(event(1, 5, at=2, kind=NFT_RULE), event(1, 5, at=3, kind=NFT_CHAIN_EXIT))
    assert tracked.ended == [([1, 2, 3], EndReason.FREED)]


def test_late_nft_events_find_their_skb_behind_a_reused_address() -> None:
    tracked = Tracked()
    tracked.process(
        event(1, 5, at=1), free(1, 5), event(1, 6, at=2), event(1, 5, at=3, kind=NFT_CHAIN_EXIT)
    )
    tracked.process(event(1, 6, at=4))
    assert tracked.ended == [([1, 3], EndReason.FREED)]
    assert tracked.times() == [[2, 4]]


def test_a_late_nft_event_ends_no_other_skb() -> None:
    """Its own is no longer tracked, or never was."""
    tracked = Tracked()
    tracked.process(event(1, 6, at=1), event(1, 5, at=2, kind=NFT_RULE), event(1, 6, at=3))
    assert tracked.ended == []
    tracked.process()
    assert tracked.ended == [([2], EndReason.FREED)]
    assert tracked.times() == [[1, 3]]


def test_an_nft_event_can_be_the_first() -> None:
    tracked = Tracked()
    tracked.process(event(1, 5, at=1, kind=NFT_RULE))
    tracked.process()
    tracked.process(event(1, 5, at=2))
    assert tracked.ended == []
    assert tracked.times() == [[1, 2]]


def test_a_clone_at_the_address_of_its_original_is_another_skb() -> None:
    tracked = Tracked()
    tracked.process(event(1, 5, at=1), free(1, 5), event(1, 5, at=2), free(1, 5), event(1, 5, at=3))
    assert tracked.ended == [([1], EndReason.FREED)]
    tracked.process()
    assert tracked.ended[1:] == [([2], EndReason.FREED)]
    assert tracked.times() == [[3]]


def test_another_packet_at_the_address_ends_the_one_before() -> None:
    tracked = Tracked()
    tracked.process(event(1, 5, at=1), event(1, 6, at=2))
    assert tracked.ended == [([1], EndReason.ADDRESS_REUSED)]
    tracked.process(event(1, 6, at=3, function=FREES), event(1, 7, at=4))
    assert tracked.ended[1:] == [([2, 3], EndReason.FREED)]


def test_a_free_of_another_packet_at_the_address_is_ignored() -> None:
    """It was too late: the address has been reused."""
    tracked = Tracked()
    tracked.process(event(1, 6, at=1), free(1, 5), free(2, 6))
    tracked.process()
    assert tracked.ended == []


def test_a_freeing_function_calls_others_and_a_tracepoint_does_not() -> None:
    tracked = Tracked()
    tracked.process(event(1, 5, at=1, function=FREES), event(1, 5, at=2))
    tracked.process(event(2, 6, at=3, function=TP), event(2, 6, at=4), event(1, 5, at=5))
    assert tracked.ended == [([1, 2, 5], EndReason.FREED)]
    tracked.process()
    assert tracked.ended[1:] == [([3], EndReason.FREED)]
    assert tracked.times() == [[4]]


def test_targets_may_be_added_later() -> None:
    targets = Targets()
    kinds = FreeKinds(targets)
    func = FUNCTION.pack(FREES, 0)
    assert kinds[func] is None
    targets.add({FREES: "kfree_skbmem"})
    assert kinds[func] is FreeKind.FREES


def test_those_without_an_event_for_long_are_evicted() -> None:
    tracked = Tracked(max_skbs=2)
    tracked.process(event(1, 1, at=1), event(2, 2, at=2), event(3, 3, at=3))
    tracked.process(event(1, 1, at=4), event(4, 4, at=5), event(5, 5, at=6))
    assert tracked.ended == [([2], EndReason.EVICTED), ([3], EndReason.EVICTED)]
    assert tracked.times() == [[1, 4], [5], [6]]


def test_room_is_made_by_freed_ones_first() -> None:
    tracked = Tracked()
    tracked.process(event(1, 1, at=1), event(2, 2, at=2), free(2, 2), event(3, 3, at=3))
    for _ in range(4):
        tracked.skbs.make_room()
    assert tracked.ended == [
        ([2], EndReason.FREED),
        ([1], EndReason.EVICTED),
        ([3], EndReason.EVICTED),
    ]


def test_reported_free_is_no_eviction() -> None:
    tracked = Tracked()
    tracked.process(event(1, 1, at=1, function=FREES))
    tracked.skbs.make_room()
    assert tracked.ended == [([1], EndReason.FREED)]


def test_one_can_be_removed() -> None:
    tracked = Tracked()
    tracked.process(event(1, 1, at=1))
    (skb,) = tracked.skbs.tracked()
    tracked.skbs.remove(skb)
    tracked.skbs.remove(skb)
    assert tracked.ended == [([1], EndReason.FREED)]


def test_the_trace_ends_all() -> None:
    tracked = Tracked()
    tracked.process(event(1, 1, at=1), event(2, 2, at=2), free(1, 1))
    assert tracked.times() == [[1], [2]]
    tracked.skbs.end_all()
    assert tracked.ended == [([1], EndReason.FREED), ([2], EndReason.TRACE_ENDED)]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.booleans()), max_size=20),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
    st.sampled_from([1, 2, tracker.MAX_SKBS]),
)
def test_every_event_is_of_its_skb(
    plan: list[tuple[int, int, bool]], chance: object, size: int, max_skbs: int
) -> None:
    """Packets at three addresses, mixed; some have no free record."""
    streams: dict[int, list[Record]] = {1: [], 2: [], 3: []}
    expected: dict[int, list[int]] = {}
    for number, (skb, length, has_free) in enumerate(plan, start=1):
        expected[number] = [number * 10 + step for step in range(length)]
        streams[skb] += [event(skb, number, at) for at in expected[number]]
        streams[skb] += [free(skb, number)] * has_free
    order = [skb for skb, stream in streams.items() for _ in stream]
    chance.shuffle(order)  # type: ignore[attr-defined]
    turns = {skb: iter(stream) for skb, stream in streams.items()}
    mixed = [next(turns[skb]) for skb in order]
    tracked = Tracked(max_skbs)
    for at in range(0, len(mixed), size):
        tracked.process(*mixed[at : at + size])
    tracked.skbs.end_all()
    assert tracked.times() == []
    found = [times for times, _ in tracked.ended]
    assert sorted(chain(*found)) == sorted(chain(*expected.values()))
    if max_skbs == tracker.MAX_SKBS:
        assert sorted(found) == sorted(expected.values())
    else:
        packets = [{time // 10 for time in times} for times in found]
        assert all(len(packet) == 1 for packet in packets), "evicted, it is tracked again"
