"""Which sights are written, and which of them are of one packet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.pcap.last_event import LastEventBuffer
from pypwru.pcap.packet_data import PacketCapture
from pypwru.pcap.select import CapturedEvent, CaptureSelector
from pypwru.wire.record import Record
from tests.support.pcaps import FRAME, Pair, QueuedCaptures, captured, captured_event
from tests.support.records import NFT_RULE, NO_SOCKET, TC, event, flow, names, packet

IP_RCV, CONSUME, DROPS, VETH = 3, 4, 5, 7
FREES, FREES_ALL = 99, 100
ENDS = {FREES: "kfree_skb_partial", FREES_ALL: "kfree_skbmem"}


def chooser(
    when: str, latest: LastEventBuffer[CapturedEvent] | None = None
) -> tuple[CaptureSelector, QueuedCaptures]:
    taken = QueuedCaptures()
    known = names()

    def function(address: int, reason: int, kind: int) -> str:
        return ENDS.get(address) or known.function(address, reason, kind)

    return CaptureSelector(when.split(","), known._replace(function=function), taken, latest), taken


def chosen(when: str, *pairs: Pair) -> list[int]:
    """Times of the sights that are written, in their order."""
    sights, taken = chooser(when)
    taken.waiting += pairs
    found = [*sights.select([record for record, _ in pairs]), *sights.take_buffered()]
    assert not taken.waiting
    return [each.record[2] for each in found]


def path(*functions: int, skb: int = 1, first: bool = True, at: int = 0) -> list[Pair]:
    """A packet's way; a drop has its reason."""
    return [
        (
            captured_event(function, skb, at + place, NO_SOCKET if function == DROPS else 0),
            captured(first=first and not place),
        )
        for place, function in enumerate(functions)
    ]


WAY = path(IP_RCV, VETH, DROPS, FREES)


@pytest.mark.parametrize(
    ("when", "times"),
    [
        ("first", [0]),
        ("last", [3]),
        ("drop", [2]),
        ("every", [0, 1, 2, 3]),
        ("ip_rcv", [0]),
        ("veth_xmit", [1]),
        ("veth_xmit[veth]", [1]),
        ("veth_xmit[other]", []),
        ("ip_rc", []),
        ("sk_skb_reason_drop", [2]),
        ("first,last", [0, 3]),
        ("first,ip_rcv,every", [0, 1, 2, 3]),
        ("last,drop,kfree_skb_partial", [2, 3]),
        ("first,drop,veth_xmit", [0, 1, 2]),
    ],
)
def test_words(when: str, times: list[int]) -> None:
    assert chosen(when, *WAY) == times


def test_a_drop_of_which_several_functions_tell_is_one() -> None:
    def drop(at: int, *functions: int, skb: int = 1, reason: int = NO_SOCKET) -> list[Pair]:
        return [
            (captured_event(function, skb, at + place, reason), captured())
            for place, function in enumerate(functions)
        ]

    nested = (IP_RCV, DROPS, VETH)  # each with the reason, as tcp_drop_reason() and what it calls
    assert chosen("drop", *drop(0, *nested)) == [0]
    assert chosen("drop,veth_xmit", *drop(0, *nested)) == [0, 2]
    assert chosen("drop", *drop(0, *nested), *drop(10, *nested)) == [0, 10]
    assert chosen("drop", *drop(0, *nested), *drop(10, *nested[1:])) == [0, 10]
    assert chosen("drop", *drop(0, *nested), *drop(10, *nested, skb=2)) == [0, 10]
    assert chosen("drop", *drop(0, IP_RCV), *drop(10, DROPS, reason=NO_SOCKET - 1)) == [0, 10]
    assert chosen("drop", *drop(0, IP_RCV), *drop(1 << 30, DROPS)) == [0, 1 << 30]


def test_only_what_is_a_drop_is_one() -> None:
    kept = captured_event(CONSUME, ktime=1)
    assert chosen("drop", (kept, captured())) == []
    said = event(packet(1, 0, 7, NFT_RULE), DROPS, flow(), 2, NO_SOCKET)
    assert chosen("drop", (said, captured())) == []


def test_a_program_goes_by_its_name() -> None:
    seen = event(packet(1, 0, 7, TC), 11, flow(), 5)
    for word in ("bpf_prog_f7c8a1f24a6b4746_tc_dummy_prog", "every"):
        assert chosen(word, (seen, captured())) == [5]


def test_nothing_is_written_without_bytes() -> None:
    nothing: list[PacketCapture | None] = [None, captured(b"", layer=0, first=True)]
    for told in nothing:
        assert chosen("every,first,last,ip_rcv", (captured_event(), told)) == []


def test_the_last_sight_with_bytes_is_the_last() -> None:
    freed = (captured_event(FREES, ktime=9), None)
    assert chosen("last", *path(IP_RCV, VETH), freed) == [1]


def test_what_is_last_and_was_written_comes_once() -> None:
    freed = (captured_event(FREES, ktime=9), None)
    assert chosen("last,veth_xmit", *path(IP_RCV, VETH), freed) == [1]
    assert chosen("last,first", *path(IP_RCV)) == [0]


def test_an_address_that_is_another_packet_s_ends_the_one_before() -> None:
    assert chosen("last", *path(IP_RCV, VETH), *path(IP_RCV, VETH, at=10)) == [1, 11]


@pytest.mark.parametrize("when", ["every", "last"])
def test_what_frees_a_packet_without_its_bytes_is_the_end_of_it(when: str) -> None:
    freed = captured_event(FREES_ALL, 1, 1), None
    assert chosen(when, *path(IP_RCV), freed, *path(IP_RCV, first=False, at=2)) == [0, 2]


def test_what_never_ends_comes_at_the_end() -> None:
    others = path(IP_RCV, skb=2, at=5)
    assert chosen("last", *others, *path(IP_RCV, VETH, at=10)) == [5, 11]


@pytest.mark.parametrize(("most", "octets"), [(2, 1 << 20), (9, 2 * len(FRAME))])
def test_what_is_quiet_for_longest_has_to_go(most: int, octets: int) -> None:
    sights, taken = chooser("last", LastEventBuffer(most, octets))
    pairs = [
        (captured_event(IP_RCV, skb, at), captured()) for at, skb in enumerate((1, 2, 1, 3, 1, 4))
    ]
    taken.waiting += pairs
    found = sights.select([record for record, _ in pairs])
    assert [each.record[2] for each in found] == [1, 3]
    assert [each.record[2] for each in sights.take_buffered()] == [4, 5]
    assert sights.take_buffered() == []


def numbers(when: str, pairs: Sequence[Pair]) -> list[int]:
    sights, taken = chooser(when)
    taken.waiting += pairs
    return [each.packet_number for each in sights.select([record for record, _ in pairs])]


def test_sights_of_a_packet_have_its_number() -> None:
    one, other = path(IP_RCV, VETH), path(IP_RCV, VETH, skb=2)
    assert numbers("every", [one[0], other[0], one[1], other[1]]) == [1, 2, 1, 2]


@pytest.mark.parametrize("told", [None, captured()])
def test_an_address_is_another_packet_behind_the_last_sight(told: PacketCapture | None) -> None:
    ended = (captured_event(FREES), told)
    found = numbers("every", [*path(IP_RCV, VETH), ended, *path(IP_RCV, first=False)])
    assert found == [1, 1, *([1] if told else []), 2]


def test_an_address_is_another_packet_where_the_kernel_says_so() -> None:
    assert numbers("every", [*path(IP_RCV, VETH), *path(IP_RCV, VETH)]) == [1, 1, 2, 2]


def test_losses_are_told_once_by_the_next_that_is_written() -> None:
    lost = [(1, IP_RCV), (2, VETH), (0, IP_RCV), (4, VETH), (8, IP_RCV)]
    pairs = [
        (captured_event(function, ktime=at), captured(dropped=count))
        for at, (count, function) in enumerate(lost)
    ]
    sights, taken = chooser("veth_xmit")
    taken.waiting += pairs
    found = [sights.select([record]) for record, _ in pairs]
    assert [[each.lost_before for each in some] for some in found] == [[], [3], [], [4], []]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from((IP_RCV, VETH, DROPS, FREES)),
        st.integers(1, 3),
        st.booleans(),  # first
        st.booleans(),  # has bytes
        st.integers(0, 2),  # dropped
    ),
    max_size=30,
)
WORDS = st.sets(st.sampled_from(("first", "last", "drop", "every", "veth_xmit")), min_size=1)


class Lives:
    """What the words promise, with all of the trace at hand."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.of_packet: dict[int, list[tuple[Record, PacketCapture]]] = {}
        live: dict[bytes, int] = {}
        for record, told in pairs:
            skb = record.packet[:8]
            if told and told.is_first:
                live.pop(skb, None)
            if told:
                number = live.setdefault(skb, len(self.of_packet) + 1)
                self.of_packet.setdefault(number, []).append((record, told))
            if record.func[0] == FREES:
                live.pop(skb, None)

    def wanted(self, words: set[str]) -> dict[int, int]:
        """Time to number of each that is written."""
        found = {}
        for number, sights in self.of_packet.items():
            for place, (record, told) in enumerate(sights):
                kept = {
                    "first": told.is_first,
                    "last": place == len(sights) - 1,
                    "drop": record.func[0] == DROPS,
                    "every": True,
                    "veth_xmit": record.func[0] == VETH,
                }
                if any(kept[word] for word in words):
                    found[record.ktime] = number
        return found


@given(events=EVENTS, words=WORDS, size=st.integers(1, 5))
def test_each_wanted_sight_comes_once(
    events: list[tuple[int, int, bool, bool, int]], words: set[str], size: int
) -> None:
    pairs: list[Pair] = [
        (
            captured_event(function, skb, at, NO_SOCKET if function == DROPS else 0),
            captured(first=first, dropped=dropped) if has_bytes else None,
        )
        for at, (function, skb, first, has_bytes, dropped) in enumerate(events)
    ]
    sights, taken = chooser(",".join(words))
    taken.waiting += pairs
    found: list[CapturedEvent] = []
    for at in range(0, len(pairs), size):
        found += sights.select([record for record, _ in pairs[at : at + size]])
    found += sights.take_buffered()

    wanted = Lives(pairs).wanted(words)
    assert sorted(each.record[2] for each in found) == sorted(wanted)
    assert {each.record[2]: each.packet_number for each in found} == wanted
    lost = sum(told.lost_before for _, told in pairs if told)
    assert sum(each.lost_before for each in found) <= lost
    if found and "every" in words:
        assert sum(each.lost_before for each in found) == lost
