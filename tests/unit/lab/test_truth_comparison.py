"""The oracle of nft events: it finds every difference from the kernel's trace, and no other."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.lab.truth.comparison import compare, compare_counts, event_record, misplaced, untraced
from tests.lab.truth.records import NO_IP, Record, decoded

_OUTCOMES = ("handle 4 accept", "handle 5 jump web", "handle 5 drop", "return", "policy drop")
_RECORDS = st.builds(
    Record,
    st.sampled_from(("inet filter input", "inet filter web", "ip nat output")),
    st.sampled_from(_OUTCOMES),
    st.sampled_from(("", "192.0.2.1 > 192.0.2.2")),
    st.integers(1, 3),
)
EVENT: dict[str, Any] = {
    "skb": "0xffff888000000100",
    "nft": {
        "family": "inet",
        "table": "filter",
        "chain": "web",
        "rule_handle": 12,
        "verdict": "jump",
        "target": "web2",
        "depth": 1,
        "hook": "input",
        "priority": -10,
        "path": ["input", "web"],
    },
    "tuple": {"saddr": "[2001:db8::1]", "daddr": "[2001:db8::2]", "sport": 1, "dport": 2},
}


def as_pypwru(kernel: list[Record]) -> list[Record]:
    """Return the records as of pypwru, which always has addresses."""
    return [record._replace(flow=record.flow or "whose", packet=record.packet) for record in kernel]


@given(st.lists(_RECORDS))
def test_equal_records_have_no_mismatch(kernel: list[Record]) -> None:
    assert compare(kernel, as_pypwru(kernel)) == (len(kernel), [])


@given(st.lists(_RECORDS, min_size=1), st.data())
def test_every_difference_is_found(kernel: list[Record], data: st.DataObject) -> None:
    events = as_pypwru(kernel)
    at = data.draw(st.integers(0, len(events) - 1))
    change = data.draw(st.sampled_from(("missing", "twice", "chain", "said", "flow")))
    if change == "missing":
        del events[at]
    elif change == "twice":
        events.insert(at, events[at])
    elif change == "flow":
        assume(kernel[at].flow)
        events[at] = events[at]._replace(flow="192.0.2.1 > 192.0.2.3")
    elif change == "chain":
        events[at] = events[at]._replace(chain="something else")
    else:
        events[at] = events[at]._replace(decision="something else")

    assert compare(kernel, events).mismatches


def test_records_are_compared_by_packet() -> None:
    kernel = [Record("ip a b", "return", "", 7), Record("ip a b", "policy drop", "", 7)]
    events = [Record("ip a b", "return", "", 1), Record("ip a b", "policy drop", "", 2)]

    assert compare(kernel, events).mismatches


def test_event_record() -> None:
    jump = event_record(EVENT)
    assert jump[:3] == ("inet filter web", "handle 12 jump web2", "2001:db8::1 > 2001:db8::2")

    nft = {"family": "arp", "table": "a", "chain": "b"}
    end, policy = {**nft, "verdict": "return"}, {**nft, "verdict": "drop", "policy": "drop"}
    assert event_record({"skb": "0x1", "nft": end})[:3] == ("arp a b", "return", NO_IP)
    assert event_record({"skb": "0x1", "nft": policy}).decision == "policy drop"


def test_counters_equal_records() -> None:
    kernel = [Record("ip a b", "handle 5 drop", "", 1)] * 2 + [Record("ip a b", "return", "", 1)]

    assert compare_counts([("ip a b", 5, 2), ("ip a b", 6, 0)], kernel) == (2, [])
    assert len(compare_counts([("ip a b", 5, 1), ("ip a b", 6, 1)], kernel).mismatches) == 2


def test_path_begins_at_the_hook() -> None:
    base = "inet filter input"

    assert misplaced([EVENT], {base: ("input", -10)}) == (1, [])
    for bases in ({}, {base: ("input", 10)}, {base: ("output", -10)}):
        assert misplaced([EVENT], bases).mismatches
    deep = {**EVENT, "nft": {**EVENT["nft"], "depth": 2}}
    assert misplaced([deep], {base: ("input", -10)}).mismatches


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def test_kernel_message_is_decoded() -> None:
    verdict = attribute(1, struct.pack("!i", -3)) + attribute(2, b"web\0")
    attributes = b"".join(
        (
            attribute(1, b"filter\0"),
            attribute(2, b"input\0"),
            attribute(3, struct.pack("!Q", 12)),
            attribute(4, struct.pack("!I", 3)),
            attribute(0x8005, verdict),
            attribute(6, struct.pack("!I", 99)),
            attribute(8, b"\x45" + bytes(11) + b"\xc0\0\x02\1\xc0\0\x02\2"),
        )
    )
    message = (
        struct.pack("=IHHIIBBH", 20 + len(attributes), 10 << 8 | 17, 0, 0, 0, 1, 0, 0) + attributes
    )

    flow = "192.0.2.1 > 192.0.2.2"
    expected = Record("inet filter input", "handle 12 jump web", flow, 99)
    assert list(decoded(message * 2)) == [expected] * 2
    assert untraced([expected, Record("ip tracing input", "return", "", 99)]) == [expected]
