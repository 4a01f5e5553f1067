"""Only packets that are thrown away, with their whole path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.packets import history
from pypwru.packets.drop_filter import DropFilter
from pypwru.packets.limit import EventLimit
from pypwru.packets.tracker import is_free_record
from pypwru.wire.drop_flag import FLAG_SIZE, is_drop_event
from pypwru.wire.layout import record_layout
from pypwru.wire.record import RawRecord, Record, header_constants
from tests.support import records
from tests.support.records import NO_SOCKET, configured, event, flow, packet

CONFIG = configured("--drops")
END = header_constants()["EVENT_SKB_FREE"]
IP_RCV, CONSUME, DROPS, VETH = 3, 4, 5, 7
CONSUMED = 1  # the reason
SECOND = 1_000_000_000


def seen(
    skb: int, function: int = IP_RCV, at: int = 0, reason: int = 0, number: int = 1, kind: int = 0
) -> Record:
    tail = records.tail(CONFIG, packet_id=number.to_bytes(8, "little"))
    return event(packet(skb, 0, 7, kind), function, flow(), at, reason, tail)


def ended(skb: int, number: int = 1) -> Record:
    return seen(skb, 0, number=number, kind=END)


class Stage:
    """A ``Dropped``, and the time."""

    def __init__(self) -> None:
        self.now = 0
        self.dropped = DropFilter(
            record_layout(CONFIG), records.FUNCTIONS, records.names().is_drop, self.clock
        )

    def clock(self) -> int:
        return self.now

    def take(self, *batch: Record) -> list[int]:
        """Times of what comes out; of the sight that dropped its packet the negative one."""
        return times(self.dropped.take(batch))


def times(found: list[RawRecord]) -> list[int]:
    return [
        -one[2] if is_drop_event(one[3]) else one[2] for one in found if not is_free_record(one)
    ]


def test_a_packet_is_shown_once_it_has_ended() -> None:
    stage = Stage()
    other = seen(2, at=2, number=2)
    batch = (seen(1, at=1), other, seen(1, DROPS, 3, NO_SOCKET), seen(1, VETH, 4, NO_SOCKET))
    assert stage.take(*batch) == []
    assert stage.take(ended(1)) == []
    found = stage.dropped.take(())
    assert times(found) == [1, -3, 4]
    assert is_free_record(found[-1]), "and who follows packets is told of its end"
    assert found[1][3][:-FLAG_SIZE] == batch[2][3][:-FLAG_SIZE]


def test_what_did_its_work_is_forgotten() -> None:
    stage = Stage()
    assert stage.take(seen(1, at=1), seen(1, CONSUME, 2), ended(1)) == []
    assert stage.take(seen(2, DROPS, 3, CONSUMED, 2), ended(2, 2)) == []
    assert stage.take() == stage.take() == []
    assert stage.dropped.finish() == []
    assert stage.dropped.evicted_events == 0


def test_a_message_of_a_socket_is_not_shown() -> None:
    """It is no packet: its reason is none of a loss on a network."""
    stage = Stage()
    message = seen(1, DROPS, 1, NO_SOCKET)._replace(flow=flow(protocol=0, is_message=True))
    assert stage.take(message, seen(2, DROPS, 2, NO_SOCKET, 2), ended(1), ended(2, 2)) == []
    assert stage.take() == [-2]


def test_a_reference_that_is_dropped_is_no_end() -> None:
    """A capture refuses its own; the packet waits in a socket, whoever frees it may say nothing."""
    stage = Stage()
    stage.now = 10 * SECOND
    refused = seen(1, DROPS, 10 * SECOND, NO_SOCKET)
    refused = refused._replace(flow=flow(is_shared=True))
    assert stage.take(refused, seen(2, DROPS, 10 * SECOND + 1, NO_SOCKET, 2)) == []
    stage.now += SECOND
    assert stage.take() == [-10 * SECOND - 1]
    assert stage.take(ended(1)) == stage.take() == []
    assert stage.take(refused, seen(1, DROPS, 12 * SECOND, NO_SOCKET), ended(1)) == []
    assert stage.take() == [10 * SECOND, -12 * SECOND]
    stage.take(refused)
    assert stage.dropped.finish() == []


def test_the_last_word_counts() -> None:
    """A reference that others hold, too, is dropped first."""
    stage = Stage()
    stage.take(seen(1, DROPS, 1, NO_SOCKET), seen(1, CONSUME, 2), ended(1))
    assert stage.take() == []
    stage.take(seen(1, CONSUME, 3, number=2), seen(1, DROPS, 4, NO_SOCKET, 2), ended(1, 2))
    assert stage.take() == [3, -4]


def test_a_drop_of_which_several_functions_tell_has_one_place() -> None:
    stage = Stage()
    stage.take(seen(1, DROPS, 1, NO_SOCKET), seen(1, VETH, 2, NO_SOCKET), ended(1))
    assert stage.take() == [-1, 2]


def test_its_end_is_not_waited_for_for_ever() -> None:
    """What is freed in bulk has none."""
    stage = Stage()
    stage.now = 10 * SECOND
    assert stage.take(seen(1, DROPS, stage.now, NO_SOCKET)) == []
    stage.now += SECOND
    assert stage.take() == [-10 * SECOND]
    assert stage.take() == []
    assert stage.dropped.finish() == []


def test_the_next_packet_at_its_address_ends_it_too() -> None:
    stage = Stage()
    assert stage.take(seen(1, DROPS, 1, NO_SOCKET), seen(1, at=2, number=2)) == [-1]


def test_what_was_dropped_is_shown_when_the_trace_ends() -> None:
    stage = Stage()
    stage.take(seen(1, at=1), seen(1, DROPS, 2, NO_SOCKET), seen(2, at=3, number=2))
    assert times(stage.dropped.finish()) == [1, -2]


def test_what_is_held_is_bounded_and_what_goes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_HELD_EVENTS", 4)
    stage = Stage()
    stage.take(*(seen(1, at=at) for at in range(1, 4)), seen(2, at=4, number=2))
    assert stage.take(seen(2, DROPS, 5, NO_SOCKET, 2)) == []
    assert stage.dropped.evicted_events == 3
    assert stage.take(seen(3, number=3), seen(3, number=3), seen(3, number=3)) == [4, -5]
    assert stage.dropped.evicted_events == 3, "what was dropped is shown instead"


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), max_size=20),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
)
def test_exactly_the_dropped(plan: list[tuple[int, int, bool]], chance: object, size: int) -> None:
    streams: dict[int, list[Record]] = {1: [], 2: [], 3: []}
    wanted = []
    for number, (skb, length, drops) in enumerate(plan, start=1):
        way = [seen(skb, at=number * 10 + step, number=number) for step in range(length)]
        last = number * 10 + length
        way.append(seen(skb, DROPS if drops else CONSUME, last, NO_SOCKET * drops, number))
        streams[skb] += [*way, ended(skb, number)]
        if drops:
            wanted += [[one[2] for one in way[:-1]] + [-last]]
    order = [skb for skb, stream in streams.items() for _ in stream]
    chance.shuffle(order)  # type: ignore[attr-defined]
    turns = {skb: iter(stream) for skb, stream in streams.items()}
    mixed = [next(turns[skb]) for skb in order]
    stage = Stage()
    out = []
    for at in range(0, len(mixed), size):
        out += stage.take(*mixed[at : at + size])
    out += times(stage.dropped.finish())
    ways: list[list[int]] = [[]]
    for time in out:
        ways[-1].append(time)
        if time < 0:
            ways.append([])
    assert sorted(ways[:-1]) == sorted(wanted), "each in one piece"
    assert not ways[-1]


def test_an_end_takes_no_room_of_the_limit() -> None:
    limit = EventLimit(2)
    batch = [seen(1), ended(1), seen(2), ended(2), seen(3)]
    assert limit.take(batch[:2]) == batch[:2]
    assert not limit.is_reached
    assert limit.take(batch[2:]) == batch[2:4]  # with its end, which was before the rest
    assert limit.is_reached
