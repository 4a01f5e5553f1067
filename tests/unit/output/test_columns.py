"""Values and texts of single columns."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.names import clock as clock_module
from pypwru.names.clock import Clock, wall_offset
from pypwru.names.event_names import NameResolver
from pypwru.output import tuples
from pypwru.output.columns import COLUMNS, center, interface, process, truncate
from pypwru.wire import fields as wire_fields
from pypwru.wire import record


def make_resolver(found: str) -> NameResolver:
    return NameResolver(
        process=lambda pid, comm, start_stack: found,
        namespace=lambda netns, cookie: found,
        function=lambda address, reason, kind: found,
        is_drop=lambda address, reason: False,
        caller=lambda frames: found,
        location=lambda frames: found,
        stack=lambda frames: [found],
        chain=lambda netns, table, chain: (found, found),
        rule=lambda part, at: None,
        skb_members=None,
        xdp_members=None,
        clock=Clock(lambda: 0),
    )


def flow_of(**changed: object) -> wire_fields.FlowFields:
    empty = wire_fields.decode_flow(bytes(wire_fields.FLOW.size))
    return empty._replace(**changed)  # type: ignore[arg-type]


def test_fields_equal_struct_members() -> None:
    """Each member of struct event, set alone, is in the field of that name and in no other."""
    readers: dict[str, Callable[[bytes], Any]] = {
        "skb": wire_fields.decode_packet,
        "address": wire_fields.decode_function,
        "netns": wire_fields.decode_flow,
    }
    begins = sorted((record.EVENT_MEMBERS[name].offset, name) for name in [*readers, "ktime"])
    ends = [*(offset for offset, _ in begins[1:]), record.EVENT_SIZE]
    checked = set()
    for (begin, first), end in zip(begins, ends, strict=True):
        if first == "ktime":
            continue
        for name, member in record.EVENT_MEMBERS.items():
            if not begin <= member.offset < end or name == "pad":
                continue
            octets = bytearray(end - begin)
            octets[member.offset - begin : member.offset - begin + member.size] = (
                b"\1" * member.size
            )
            fields = readers[first](bytes(octets))._asdict()
            if first == "address":
                assert fields.pop("kind") == 0, "it isn't in this part"
            assert fields.pop(name) in (
                b"\1" * member.size,
                "\1" * member.size,
                int.from_bytes(b"\1" * min(member.size, 4 if name == "reason" else 8), "little"),
            )
            assert not any(
                value.strip(b"\0") if isinstance(value, bytes) else value
                for value in fields.values()
            )
            checked.add(name)
    assert checked == set(record.EVENT_MEMBERS) - {"ktime", "pad"}


def test_byte_order_and_dirty_registers() -> None:
    octets = bytearray(wire_fields.FLOW.size)
    for name, value in (("protocol", 0x0806), ("sport", 443), ("dport", 9)):
        at = record.EVENT_MEMBERS[name].offset - record.EVENT_MEMBERS["netns"].offset
        octets[at : at + 2] = value.to_bytes(2, "big")
    flow = wire_fields.decode_flow(bytes(octets))
    assert (flow.protocol, flow.sport, flow.dport) == (0x0806, 443, 9)
    dirty = wire_fields.FUNCTION.pack(1, 0xFFFFFFFF_00000003)
    assert wire_fields.decode_function(dirty) == (1, 3, 0)


@pytest.mark.parametrize(
    ("found", "pid", "comm", "text"),
    [
        ("/usr/bin/ping", 264, "ping", "~sr/bin/ping:264"),
        ("/usr/bin/ping", 26, "ping", "/usr/bin/ping:26"),
        ("ksoftirqd/0", 16, "ksoftirqd/0", "ksoftirqd/0:16"),
        ("", 264, "ping", "ping:264"),
        ("", 0, "swapper/0", "<empty>:0"),
        ("", 123456789012, "", "<empty>:123456789012"),
    ],
)
def test_process(found: str, pid: int, comm: str, text: str) -> None:
    assert process(wire_fields.PacketFields(1, pid, 0, 0, comm), make_resolver(found)) == text


@pytest.mark.parametrize(
    ("found", "ifindex", "text"),
    [
        ("lo", 1, "lo:1"),
        ("averlongname123", 2, "~erlongname123:2"),
        ("", 0, "0"),
        ("", 4294967295, "4294967295"),
    ],
)
def test_interface(found: str, ifindex: int, text: str) -> None:
    assert interface(flow_of(ifindex=ifindex, ifname=found), make_resolver("")) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(0, 30))
def test_center_counts_bytes(text: str, width: int) -> None:
    centered = center(text, width)
    assert centered.strip(" ") == text.strip(" ")
    left = len(centered) - len(centered.lstrip(" ")) - (len(text) - len(text.lstrip(" ")))
    right = len(centered) - len(text) - left
    assert len(centered.encode()) == max(width, len(text.encode()))
    if text.strip(" "):
        assert right - left in (0, 1)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_truncate_keeps_last_16_bytes(text: str) -> None:
    octets = truncate(text).encode("utf-8", "surrogateescape")
    whole = text.encode()
    assert octets == (whole if len(whole) <= 16 else b"~" + whole[-15:])


def five_tuple(**changed: object) -> tuples.FiveTuple:
    return tuples.tuple_of(flow_of(**changed))


def test_ipv6_is_rfc_5952() -> None:
    def formatted(address: str) -> str:
        return tuples.format_address(6, ipaddress.IPv6Address(address).packed)

    # RFC 5952 4.2: one zero group stays, the first of two longest runs goes.
    assert formatted("2001:db8:0:1:1:1:1:1") == "2001:db8:0:1:1:1:1:1"
    assert formatted("2001:0:0:1:0:0:0:1") == "2001:0:0:1::1"
    assert formatted("2001:db8:0:0:1:0:0:1") == "2001:db8::1:0:0:1"
    assert formatted("::") == "::"
    # Go's net.IP: IPv4-mapped is dotted, IPv4-compatible is not.
    assert formatted("::ffff:1.2.3.4") == "1.2.3.4"
    assert formatted("::1.2.3.4") == "::102:304"


@given(st.binary(min_size=16, max_size=16))
def test_addresses_round_trip(octets: bytes) -> None:
    assert ipaddress.IPv4Address(tuples.format_address(4, octets)).packed == octets[:4]
    sixth = ipaddress.ip_address(tuples.format_address(6, octets))
    assert sixth.packed == octets[-sixth.max_prefixlen // 8 :]


def test_tuple_texts() -> None:
    local = bytes([127, 0, 0, 1])
    sctp = five_tuple(l3=4, l4=132, saddr=local, daddr=local)
    assert tuples.text(sctp, flags=True) == "127.0.0.1:0->127.0.0.1:0()"
    assert tuples.text(five_tuple(), flags=True) == ":0->:0()"
    syn = five_tuple(l3=4, l4=6, saddr=local, daddr=local, sport=1, dport=2, tcp_flags=0x02)
    assert tuples.text(syn, flags=False) == "127.0.0.1:1->127.0.0.1:2(tcp)"
    assert tuples.text(syn, flags=True) == "127.0.0.1:1->127.0.0.1:2(tcp:SYN)"
    assert tuples.text(syn._replace(flags=""), flags=True) == "127.0.0.1:1->127.0.0.1:2(tcp)"
    udp = five_tuple(l3=6, l4=17, saddr=bytes(16), daddr=bytes(15) + b"\1", tcp_flags=0xFF)
    assert tuples.text(udp, flags=True) == "[::]:0->[::1]:0(udp)"
    assert tuples.tcp_flag_names(0xFF) == "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR"


def test_column_names_are_identifiers() -> None:
    assert all(column.name.isidentifier() for column in COLUMNS)


def test_wall_offset() -> None:
    before = time.time_ns()
    wall = time.monotonic_ns() + wall_offset()
    assert abs(wall - before) < 1_000_000_000


def test_refresh_follows_a_clock_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "localtime", time.gmtime)
    offset = 0
    clock = Clock(lambda: offset)
    assert clock.local_time(999_999_999) == "1970-01-01T00:00:00.999"
    offset = 60_000_000_000
    assert clock.local_time(1_000_000) == "1970-01-01T00:00:00.001"
    clock.refresh_offset()
    assert clock.local_time(1_000_000) == "1970-01-01T00:01:00.001"
    assert clock.wall_ns(1_000_001) == 60_001_000_001


def test_packet_times_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "_MAX_PACKETS", 10)
    clock = Clock(lambda: 0)
    for number in range(1, 101):
        clock.since_previous(number.to_bytes(8, "little"), number)
    assert len(clock._last_times) + len(clock._older_times) <= 21
    assert clock.since_previous((100).to_bytes(8, "little"), 101) == 1
    assert clock.since_previous((1).to_bytes(8, "little"), 100) == 0
