"""Which events are written, and which of them are of one packet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.discovery.targets import Targets
from pypwru.needs import Needs
from pypwru.packets.tracker import is_free_record
from pypwru.pcap.last_event import LastEventBuffer
from pypwru.pcap.packet_data import PacketCapture
from pypwru.pcap.select import CapturedEvent, CaptureSelector
from pypwru.wire.record import Record, header_constants
from tests.support import records
from tests.support.layouts import layout_of
from tests.support.pcaps import FRAME, QueuedCaptures, captured, captured_event
from tests.support.records import NFT_RULE, NO_SOCKET, TC, configured, event, flow, packet

IP_RCV, CONSUME, DROPS, VETH = 3, 4, 5, 7
PARTIAL = 99
TARGETS = records.FUNCTIONS | {PARTIAL: "kfree_skb_partial"}
SKB_FREE = header_constants()["EVENT_SKB_FREE"]

Pair = tuple[Record, PacketCapture | None]
"""A record and its packet data. A free record has none."""


def selector(
    when: str, latest: LastEventBuffer[CapturedEvent] | None = None
) -> tuple[CaptureSelector, QueuedCaptures]:
    taken = QueuedCaptures()
    known = records.names()

    def function(address: int, reason: int, kind: int) -> str:
        name = TARGETS[PARTIAL] if address == PARTIAL else ""
        return name or known.function(address, reason, kind)

    config = configured(f"--output-pcap x.pcapng --pcap-when {when}")
    resolver, layout = known._replace(function=function), layout_of(config)
    return CaptureSelector(
        config.capture_when, layout, resolver, Targets(TARGETS), taken, latest
    ), taken


def of_packet(record: Record, packet_id: int, when: str) -> Record:
    """The record with a tail."""
    config = configured(f"--output-pcap x.pcapng --pcap-when {when}")
    given = {"packet_id": packet_id.to_bytes(8, "little")} if Needs.of(config).packet_ids else {}
    return record._replace(tail=records.tail(config, **given))


def free(skb: int = 1) -> Pair:
    return event(packet(skb, 0, 7, SKB_FREE), 0, bytes(len(flow())), 0), None


class Selection:
    """Events by --pcap-when.

    Args:
        when: words.
        latest: as of ``CaptureSelector``.
    """

    def __init__(self, when: str, latest: LastEventBuffer[CapturedEvent] | None = None) -> None:
        self._when = when
        self._selector, self._taken = selector(when, latest)

    def select(self, *pairs: Pair, packet_id: int = 1) -> list[CapturedEvent]:
        """Select from a batch of one packet."""
        return self.select_of([(pair, packet_id) for pair in pairs])

    def select_of(self, batch: Sequence[tuple[Pair, int]]) -> list[CapturedEvent]:
        """Select from a batch of records with packet ids."""
        whole = [(of_packet(pair[0], number, self._when), pair[1]) for pair, number in batch]
        self._taken.waiting += [pair for pair in whole if not is_free_record(pair[0])]
        found = self._selector.select([record for record, _ in whole])
        assert not self._taken.waiting
        return found

    def finish(self) -> list[CapturedEvent]:
        """Return what is selected at the end of the run."""
        return [*self._selector.select([]), *self._selector.take_buffered()]


def times(events: Iterable[CapturedEvent]) -> list[int]:
    return [each.record[2] for each in events]


def selected(when: str, *pairs: Pair) -> list[int]:
    """Times of the events of one packet that are written, in their order."""
    selection = Selection(when)
    return times([*selection.select(*pairs), *selection.finish()])


def path(*functions: int, skb: int = 1, first: bool = True, at: int = 0) -> list[Pair]:
    """A packet's path; a drop has its reason."""
    return [
        (
            captured_event(function, skb, at + place, NO_SOCKET if function == DROPS else 0),
            captured(first=first and not place),
        )
        for place, function in enumerate(functions)
    ]


PATH = path(IP_RCV, VETH, DROPS, PARTIAL)


@pytest.mark.parametrize(
    ("when", "expected"),
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
def test_words(when: str, expected: list[int]) -> None:
    assert selected(when, *PATH) == expected


def test_nested_drops_are_one() -> None:
    def drop(at: int, *functions: int, skb: int = 1, reason: int = NO_SOCKET) -> list[Pair]:
        return [
            (captured_event(function, skb, at + place, reason), captured())
            for place, function in enumerate(functions)
        ]

    nested = (IP_RCV, DROPS, VETH)  # each with the reason, as tcp_drop_reason() and what it calls
    assert selected("drop", *drop(0, *nested)) == [0]
    assert selected("drop,veth_xmit", *drop(0, *nested)) == [0, 2]
    assert selected("drop", *drop(0, *nested), *drop(10, *nested)) == [0, 10]
    assert selected("drop", *drop(0, *nested), *drop(10, *nested[1:])) == [0, 10]
    assert selected("drop", *drop(0, *nested), *drop(10, *nested, skb=2)) == [0, 10]
    assert selected("drop", *drop(0, *nested), free(), *drop(10, *nested)) == [0, 10]
    assert selected("drop", *drop(0, IP_RCV), *drop(10, DROPS, reason=NO_SOCKET - 1)) == [0, 10]
    assert selected("drop", *drop(0, IP_RCV), *drop(1 << 30, DROPS)) == [0, 1 << 30]


def test_a_consume_is_no_drop() -> None:
    assert selected("drop", (captured_event(CONSUME, ktime=1), captured())) == []
    rule = event(packet(1, 0, 7, NFT_RULE), DROPS, flow(), 2, NO_SOCKET)
    assert selected("drop", (rule, captured())) == []


def test_a_program_is_selected_by_its_name() -> None:
    of_program = event(packet(1, 0, 7, TC), 11, flow(), 5)
    for word in ("bpf_prog_f7c8a1f24a6b4746_tc_dummy_prog", "every"):
        assert selected(word, (of_program, captured())) == [5]


def test_an_event_without_data_is_not_written() -> None:
    nothing: list[PacketCapture | None] = [None, captured(b"", layer=0, first=True)]
    for data in nothing:
        assert selected("every,first,last,ip_rcv", (captured_event(), data)) == []


def test_the_last_event_with_data_is_the_last() -> None:
    freed = (captured_event(PARTIAL, ktime=9), None)
    assert selected("last", *path(IP_RCV, VETH), freed, free()) == [1]


def test_a_last_event_that_was_written_comes_once() -> None:
    freed = (captured_event(PARTIAL, ktime=9), None)
    assert selected("last,veth_xmit", *path(IP_RCV, VETH), freed) == [1]
    assert selected("last,first", *path(IP_RCV)) == [0]


@pytest.mark.parametrize("ends", [free(), (captured_event(PARTIAL, ktime=9), None)])
def test_the_last_event_is_known_when_the_skb_is_freed(ends: Pair) -> None:
    selection = Selection("last")
    assert selection.select(*path(IP_RCV, VETH), ends) == []
    assert times(selection.select()) == [1]
    assert selection.finish() == []


def test_another_packet_at_the_address_ends_the_one_before() -> None:
    selection = Selection("last")
    assert selection.select(*path(IP_RCV, VETH)) == []
    assert times(selection.select(*path(IP_RCV, VETH, at=10), packet_id=2)) == [1]
    assert times(selection.finish()) == [11]


def test_a_clone_at_the_address_has_a_last_event_of_its_own() -> None:
    once, again = path(IP_RCV, VETH), path(IP_RCV, first=False, at=10)
    assert selected("last", *once, free(), *again) == [1, 10]


def test_without_a_free_the_last_event_comes_at_the_end() -> None:
    others = path(IP_RCV, skb=2, at=5)
    assert selected("last", *others, *path(IP_RCV, VETH, at=10)) == [5, 11]


@pytest.mark.parametrize(("most", "size"), [(2, 1 << 20), (9, 2 * len(FRAME))])
def test_the_buffer_of_last_events_is_bounded(most: int, size: int) -> None:
    selection = Selection("last", LastEventBuffer(most, size))
    pairs = [
        (captured_event(IP_RCV, skb, at), captured()) for at, skb in enumerate((1, 2, 1, 3, 1, 4))
    ]
    assert times(selection.select(*pairs)) == [1, 3]
    assert times(selection.finish()) == [4, 5]
    assert selection.finish() == []


def test_packets_have_their_packet_id() -> None:
    one, other = path(IP_RCV, VETH), path(IP_RCV, VETH, skb=2)
    batch = [(one[0], 7), (other[0], 1 << 40 | 9), (one[1], 7), (other[1], 1 << 40 | 9)]
    found = [each.packet_number for each in Selection("every").select_of(batch)]
    assert found == [number for _, number in batch]


def test_without_packet_ids_events_are_numbered() -> None:
    """Each is the first of a packet."""
    assert not Needs.of(configured("--output-pcap x.pcapng")).packet_ids
    selection = Selection("first")
    found = [selection.select(*path(IP_RCV, at=at)) for at in (0, 10)]
    assert [[each.packet_number for each in events] for events in found] == [[1], [2]]


def test_losses_are_reported_once_by_the_next_that_is_written() -> None:
    lost = [(1, IP_RCV), (2, VETH), (0, IP_RCV), (4, VETH), (8, IP_RCV)]
    pairs = [
        (captured_event(function, ktime=at), captured(dropped=count))
        for at, (count, function) in enumerate(lost)
    ]
    selection = Selection("veth_xmit")
    found = [selection.select(pair) for pair in pairs]
    assert [[each.lost_before for each in some] for some in found] == [[], [3], [], [4], []]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from((IP_RCV, VETH, DROPS, 0)),  # 0: the free of the sk_buff
        st.integers(1, 3),
        st.booleans(),  # the first event of its packet
        st.booleans(),  # has data
        st.integers(0, 2),  # packets lost before
    ),
    max_size=30,
)
WORDS = st.sets(st.sampled_from(("first", "last", "drop", "every", "veth_xmit")), min_size=1)
Numbered = tuple[Pair, int]


def numbered(events: list[tuple[int, int, bool, bool, int]]) -> list[Numbered]:
    """Records with packet ids: at each address one packet follows another behind a free."""
    found: list[Numbered] = []
    current: dict[int, int] = {}
    for at, (function, skb, first, has_data, lost) in enumerate(events):
        if not function:
            if skb in current:
                found.append((free(skb), current.pop(skb)))
            continue
        number = current.setdefault(skb, at + 1)
        record = captured_event(function, skb, at, NO_SOCKET if function == DROPS else 0)
        data = captured(first=first, dropped=lost) if has_data else None
        found.append(((record, data), number))
    return found


def expected_times(stream: Sequence[Numbered], words: set[str]) -> dict[int, int]:
    """Time to packet id of each event that is written, with all of the trace at hand."""
    by_packet: dict[int, list[tuple[Record, PacketCapture]]] = {}
    for pair, number in stream:
        if pair[1]:
            by_packet.setdefault(number, []).append((pair[0], pair[1]))
    found = {}
    for number, events in by_packet.items():
        for place, (record, data) in enumerate(events):
            is_selected = {
                "first": data.is_first,
                "last": place == len(events) - 1,
                "drop": record.func[:8] == DROPS.to_bytes(8, "little"),
                "every": True,
                "veth_xmit": record.func[:8] == VETH.to_bytes(8, "little"),
            }
            if any(is_selected[word] for word in words):
                found[record.ktime] = number
    return found


@given(events=EVENTS, words=WORDS, size=st.integers(1, 5))
def test_each_selected_event_comes_once(
    events: list[tuple[int, int, bool, bool, int]], words: set[str], size: int
) -> None:
    stream = numbered(events)
    selection = Selection(",".join(sorted(words)))
    found: list[CapturedEvent] = []
    for at in range(0, len(stream), size):
        found += selection.select_of(stream[at : at + size])
    found += selection.finish()

    expected = expected_times(stream, words)
    assert sorted(times(found)) == sorted(expected)
    if words != {"first"}:
        assert {each.record[2]: each.packet_number for each in found} == expected
    lost = sum(data.lost_before for (_, data), _ in stream if data)
    assert sum(each.lost_before for each in found) <= lost
    if found and "every" in words:
        assert sum(each.lost_before for each in found) == lost
