"""Only packets about which a rule spoke, with their whole path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.nft import packet_filter
from pypwru.nft.packet_filter import NftPacketFilter
from pypwru.wire.fields import FUNCTION
from pypwru.wire.record import RawRecord, Record
from tests.support.records import NFT_CHAIN_ENTRY, NFT_CHAIN_EXIT, NFT_RULE, packet

FREE, OTHER = 0xFFFFFFFF81000010, 0xFFFFFFFF81000020
NAMES = {FREE: "kfree_skbmem", OTHER: "ip_rcv"}
SECOND = 1_000_000_000
# What a record of these tests tells, in place of a tail.
NOTHING, OWN, JUDGES, ASKED, CARRIES, CARRIES_ASKED = b"", b"own", b"judges", b"asked", b"c", b"ca"


def sight(
    skb: int, tells: bytes = NOTHING, at: int = 0, address: int = OTHER, kind: int = 0
) -> Record:
    return Record(packet(skb, 0, 7, kind), FUNCTION.pack(address, 0), at, b"", tells)


def meets(record: RawRecord) -> bool:
    return record[4] in (ASKED, CARRIES_ASKED)


def judges(record: RawRecord) -> bool | None:
    return None if record[4] == NOTHING else record[4] not in (OWN,)


class Stage:
    """A ``Judged``, and what came out of it."""

    def __init__(self) -> None:
        self.out: list[RawRecord] = []
        self.judged = NftPacketFilter(meets, judges, NAMES)

    def take(self, *batch: Record) -> list[RawRecord]:
        """What comes out when ``batch`` is given."""
        found = self.judged.take(batch)
        self.out += found
        return found


def test_the_whole_path_is_shown() -> None:
    stage = Stage()
    first, other, second = sight(1, at=1), sight(2, at=2), sight(1, OWN, 3)
    assert stage.take(first, other, second) == []
    spoke, after = sight(1, ASKED, 4), sight(1, CARRIES, 5)
    assert stage.take(spoke, other, after) == [first, second, spoke, after]
    assert stage.take(sight(1, CARRIES, 6), other) == [sight(1, CARRIES, 6)]


def test_a_carried_verdict_is_told_of_too() -> None:
    stage = Stage()
    assert stage.take(sight(1), sight(1, CARRIES_ASKED)) == [sight(1), sight(1, CARRIES_ASKED)]


def test_with_a_packet_goes_what_is_held_of_it() -> None:
    stage = Stage()
    stage.take(sight(1), sight(1, address=FREE))
    assert stage.take(sight(1, ASKED)) == [sight(1, ASKED)]
    assert stage.take(sight(1, CARRIES_ASKED, address=FREE)) != []
    assert stage.take(sight(1)) == [], "the next packet at that address"


def test_what_is_said_of_a_packet_that_it_ended_is_of_that_packet() -> None:
    """A rule frees it while it is evaluated, and the kernel tells of that afterwards."""
    stage = Stage()
    end = sight(1, address=FREE)
    rule, left = sight(1, ASKED, kind=NFT_RULE), sight(1, OWN, kind=NFT_CHAIN_EXIT)
    assert stage.take(sight(1), end) == []
    assert stage.take(rule, left) == [sight(1), end, rule, left]
    assert stage.take(sight(1), end, left) == [], "another one"
    entered = sight(1, OWN, kind=NFT_CHAIN_ENTRY)
    assert stage.take(entered, rule) == [entered, rule], "and this is a third"
    assert stage.take(sight(1, CARRIES_ASKED, address=FREE), left)[1:] == [left]


def test_few_of_those_that_ended_are_remembered() -> None:
    stage = Stage()
    for skb in range(200):
        stage.take(sight(skb), sight(skb, address=FREE))
    assert len(stage.judged._freed) == packet_filter._MAX_FREED
    assert stage.judged._held_events == 0 == stage.judged.evicted_events


def test_one_that_carries_nothing_is_not_the_one_that_was_judged() -> None:
    """Its end was not traced."""
    stage = Stage()
    assert len(stage.take(sight(1, ASKED), sight(1, CARRIES_ASKED))) == 2
    assert stage.take(sight(1), sight(1, OWN)) == []
    assert stage.take(sight(1, JUDGES), sight(1)) == []
    assert stage.take(sight(1, ASKED)) == [sight(1), sight(1, ASKED)], "what JUDGES told is gone"


def test_a_rule_that_only_jumps_leaves_nothing_to_carry() -> None:
    stage = Stage()

    def jump(record: RawRecord) -> bool:
        return record[4] == OWN

    stage.judged = NftPacketFilter(jump, judges, NAMES)
    assert len(stage.take(sight(1), sight(1, OWN), sight(1))) == 3


@pytest.mark.parametrize(("pause", "shown"), [(9, 2), (10, 1)])
def test_after_ten_seconds_an_address_is_another_packets(pause: int, shown: int) -> None:
    stage = Stage()
    stage.take(sight(1, at=5))
    assert len(stage.take(sight(1, ASKED, at=5 + pause * SECOND))) == shown
    stage = Stage()
    stage.take(sight(1, ASKED, at=5))
    assert len(stage.take(sight(1, CARRIES, at=5 + pause * SECOND))) == shown - 1


def test_held_sights_are_bounded_and_what_goes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "_MAX_HELD_EVENTS", 4)
    stage = Stage()
    stage.take(*(sight(1, at=at) for at in range(3)), sight(2), sight(3))
    assert stage.judged.evicted_events == 3, "of the packet that was seen first"
    assert stage.take(sight(1, ASKED), sight(2, ASKED)) == [
        sight(1, ASKED), sight(2), sight(2, ASKED),
    ]  # fmt: skip


def test_held_packets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "_MAX_PACKETS", 4)
    stage = Stage()
    stage.take(sight(9, ASKED), *(sight(skb) for skb in range(4)))
    assert stage.judged.evicted_events == 0, "of the one that was shown nothing was held"
    stage.take(sight(4), sight(5))
    assert stage.judged.evicted_events == 2
    assert len(stage.judged._packets) == 4


tells = st.sampled_from([NOTHING, OWN, JUDGES, ASKED, CARRIES, CARRIES_ASKED])


@st.composite
def lives(draw: st.DrawFn) -> list[Record]:
    """Packets one after another at three addresses, each from its first sight to its freeing."""
    streams = []
    for skb in range(3):
        stream = []
        for life in range(draw(st.integers(0, 3))):
            said = NOTHING
            for step in range(draw(st.integers(0, 5))):
                own = draw(st.sampled_from([NOTHING, OWN, JUDGES, ASKED]))
                if own in (JUDGES, ASKED):
                    said = CARRIES_ASKED if own == ASKED else CARRIES
                stream.append((skb, own if own != NOTHING else said, OTHER, life, step))
            stream.append((skb, said, FREE, life, 99))
        streams.append(stream)
    order = draw(st.permutations([skb for skb, stream in enumerate(streams) for _ in stream]))
    turns = [iter(stream) for stream in streams]
    mixed = [next(turns[skb]) for skb in order]
    # The life is in the flow part, which the stage doesn't read.
    return [
        Record(packet(skb, 0, 7), FUNCTION.pack(address, 0), at, bytes([life]), said)
        for at, (skb, said, address, life, _) in enumerate(mixed)
    ]


@given(lives(), st.integers(1, 7))
def test_exactly_the_packets_that_were_asked_for(stream: list[Record], size: int) -> None:
    def life(record: RawRecord) -> tuple[bytes, bytes]:
        return record[0][:8], record[3]

    wanted = {life(record) for record in stream if meets(record)}
    stage = Stage()
    for at in range(0, len(stream), size):
        stage.take(*stream[at : at + size])
    assert sorted(stage.out, key=lambda one: one[2]) == [
        record for record in stream if life(record) in wanted
    ]
    for each in wanted:
        times = [record[2] for record in stage.out if life(record) == each]
        assert times == sorted(times), "in their order"
    assert stage.judged._held_events == 0 == len(stage.judged._packets)
