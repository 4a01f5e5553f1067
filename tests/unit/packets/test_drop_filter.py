"""--drops: the events of dropped packets only, with their whole path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.discovery.targets import Targets
from pypwru.packets import history
from pypwru.packets.drop_filter import DropFilter
from pypwru.packets.limit import EventLimit
from pypwru.packets.tracker import is_free_record
from pypwru.wire.drop_flag import FLAG_SIZE, is_drop_event
from pypwru.wire.record import RawRecord, Record, header_constants
from tests.support import records
from tests.support.layouts import layout_of
from tests.support.records import NO_SOCKET, configured, event, flow, packet

CONFIG = configured("--drops")
SKB_FREE = header_constants()["EVENT_SKB_FREE"]
IP_RCV, CONSUME, DROPS, VETH = 3, 4, 5, 7
CONSUMED = 1  # the reason
SECOND = 1_000_000_000


def make_record(
    skb: int,
    function: int = IP_RCV,
    at: int = 0,
    reason: int = 0,
    packet_id: int = 1,
    kind: int = 0,
) -> Record:
    tail = records.tail(CONFIG, packet_id=packet_id.to_bytes(8, "little"))
    return event(packet(skb, 0, 7, kind), function, flow(), at, reason, tail)


def free_record(skb: int, packet_id: int = 1) -> Record:
    return make_record(skb, 0, packet_id=packet_id, kind=SKB_FREE)


class ClockedFilter:
    """A DropFilter with a fake clock."""

    def __init__(self) -> None:
        self.now = 0
        self.drop_filter = DropFilter(
            layout_of(CONFIG), Targets(records.FUNCTIONS), records.names().is_drop, self.clock
        )

    def clock(self) -> int:
        return self.now

    def take(self, *batch: Record) -> list[int]:
        """Return times of the events that are passed on; that of the drop is negative."""
        return times(self.drop_filter.take(batch))


def times(found: list[RawRecord]) -> list[int]:
    return [
        -record[2] if is_drop_event(record[3]) else record[2]
        for record in found
        if not is_free_record(record)
    ]


def test_free_shows_dropped_packet() -> None:
    clocked = ClockedFilter()
    other = make_record(2, at=2, packet_id=2)
    batch = (
        make_record(1, at=1),
        other,
        make_record(1, DROPS, 3, NO_SOCKET),
        make_record(1, VETH, 4, NO_SOCKET),
    )
    assert clocked.take(*batch) == []
    assert clocked.take(free_record(1)) == []
    found = clocked.drop_filter.take(())
    assert times(found) == [1, -3, 4]
    assert is_free_record(found[-1]), "trackers behind it get the free record"
    assert found[1][3][:-FLAG_SIZE] == batch[2][3][:-FLAG_SIZE]


def test_consumed_packets_are_discarded() -> None:
    clocked = ClockedFilter()
    assert clocked.take(make_record(1, at=1), make_record(1, CONSUME, 2), free_record(1)) == []
    assert clocked.take(make_record(2, DROPS, 3, CONSUMED, 2), free_record(2, 2)) == []
    assert clocked.take() == clocked.take() == []
    assert clocked.drop_filter.finish() == []
    assert clocked.drop_filter.evicted_events == 0


def test_socket_messages_are_discarded() -> None:
    """They are no packets: their drop reason is no loss on a network."""
    clocked = ClockedFilter()
    message = make_record(1, DROPS, 1, NO_SOCKET)._replace(flow=flow(protocol=0, is_message=True))
    drop = make_record(2, DROPS, 2, NO_SOCKET, 2)
    assert clocked.take(message, drop, free_record(1), free_record(2, 2)) == []
    assert clocked.take() == [-2]


def test_dropped_reference_keeps_packet() -> None:
    """As that of a packet socket; the packet is queued elsewhere, and may be freed untraced."""
    clocked = ClockedFilter()
    clocked.now = 10 * SECOND
    reference = make_record(1, DROPS, 10 * SECOND, NO_SOCKET)
    reference = reference._replace(flow=flow(is_shared=True))
    assert clocked.take(reference, make_record(2, DROPS, 10 * SECOND + 1, NO_SOCKET, 2)) == []
    clocked.now += SECOND
    assert clocked.take() == [-10 * SECOND - 1]
    assert clocked.take(free_record(1)) == clocked.take() == []
    drop = make_record(1, DROPS, 12 * SECOND, NO_SOCKET)
    assert clocked.take(reference, drop, free_record(1)) == []
    assert clocked.take() == [10 * SECOND, -12 * SECOND]
    clocked.take(reference)
    assert clocked.drop_filter.finish() == []


def test_last_reason_decides() -> None:
    """One packet's first reference is dropped, the other packet's is consumed."""
    clocked = ClockedFilter()
    clocked.take(make_record(1, DROPS, 1, NO_SOCKET), make_record(1, CONSUME, 2), free_record(1))
    assert clocked.take() == []
    clocked.take(
        make_record(1, CONSUME, 3, packet_id=2),
        make_record(1, DROPS, 4, NO_SOCKET, 2),
        free_record(1, 2),
    )
    assert clocked.take() == [3, -4]


def test_nested_drops_are_marked_once() -> None:
    clocked = ClockedFilter()
    clocked.take(
        make_record(1, DROPS, 1, NO_SOCKET), make_record(1, VETH, 2, NO_SOCKET), free_record(1)
    )
    assert clocked.take() == [-1, 2]


def test_dropped_packet_is_shown_after_a_second() -> None:
    """Packets that are freed in bulk have no free record."""
    clocked = ClockedFilter()
    clocked.now = 10 * SECOND
    assert clocked.take(make_record(1, DROPS, clocked.now, NO_SOCKET)) == []
    clocked.now += SECOND
    assert clocked.take() == [-10 * SECOND]
    assert clocked.take() == []
    assert clocked.drop_filter.finish() == []


def test_next_packet_at_address_shows_drop() -> None:
    clocked = ClockedFilter()
    batch = make_record(1, DROPS, 1, NO_SOCKET), make_record(1, at=2, packet_id=2)
    assert clocked.take(*batch) == [-1]


def test_finish_shows_dropped_packets() -> None:
    clocked = ClockedFilter()
    clocked.take(
        make_record(1, at=1), make_record(1, DROPS, 2, NO_SOCKET), make_record(2, at=3, packet_id=2)
    )
    assert times(clocked.drop_filter.finish()) == [1, -2]


def test_evicted_events_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_HELD_EVENTS", 4)
    clocked = ClockedFilter()
    clocked.take(*(make_record(1, at=at) for at in range(1, 4)), make_record(2, at=4, packet_id=2))
    assert clocked.take(make_record(2, DROPS, 5, NO_SOCKET, 2)) == []
    assert clocked.drop_filter.evicted_events == 3
    assert clocked.take(
        make_record(3, packet_id=3), make_record(3, packet_id=3), make_record(3, packet_id=3)
    ) == [4, -5]
    assert clocked.drop_filter.evicted_events == 3, "what was dropped is shown instead"


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=20),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
)
def test_exactly_dropped_packets_are_shown(
    plan: list[tuple[int, int, bool]], random: object, size: int
) -> None:
    streams: dict[int, list[Record]] = {1: [], 2: [], 3: []}
    expected = []
    for packet_id, (skb, length, drops) in enumerate(plan, start=1):
        path = [
            make_record(skb, at=packet_id * 10 + step, packet_id=packet_id)
            for step in range(length)
        ]
        last = packet_id * 10 + length
        path.append(
            make_record(skb, DROPS if drops else CONSUME, last, NO_SOCKET * drops, packet_id)
        )
        streams[skb] += [*path, free_record(skb, packet_id)]
        if drops:
            expected += [[record[2] for record in path[:-1]] + [-last]]
    order = [skb for skb, stream in streams.items() for _ in stream]
    random.shuffle(order)  # type: ignore[attr-defined]
    turns = {skb: iter(stream) for skb, stream in streams.items()}
    batch = [next(turns[skb]) for skb in order]
    clocked = ClockedFilter()
    shown = []
    for at in range(0, len(batch), size):
        shown += clocked.take(*batch[at : at + size])
    shown += times(clocked.drop_filter.finish())
    paths: list[list[int]] = [[]]
    for time in shown:
        paths[-1].append(time)
        if time < 0:
            paths.append([])
    assert sorted(paths[:-1]) == sorted(expected), "each in one piece"
    assert not paths[-1]


def test_free_records_are_not_limited() -> None:
    limit = EventLimit(2)
    batch = [make_record(1), free_record(1), make_record(2), free_record(2), make_record(3)]
    assert limit.take(batch[:2]) == batch[:2]
    assert not limit.is_reached
    assert limit.take(batch[2:]) == batch[2:4]  # with the free record, which was before the rest
    assert limit.is_reached
