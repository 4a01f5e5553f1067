"""Objects of --output-json: equal to pwru's, valid by the schema, and parsed by jq."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pypwru.output.columns import COLUMNS
from pypwru.output.fields import KEYS
from pypwru.output.json import encode
from pypwru.wire.fields import FLOW, FUNCTION, PACKET
from pypwru.wire.layout import RecordLayout
from pypwru.wire.record import EVENT_MEMBERS, Record
from tests.oracles.json_schema import SCHEMA, jq, validated
from tests.support import records
from tests.support.layouts import columns_of, layout_of
from tests.support.records import (
    BLUE,
    ICMP,
    MAP_CALL,
    NO_SOCKET,
    TC,
    TCP,
    UDP,
    XDP,
    Output,
    event,
    flow,
    packet,
    tail,
)

OFF = "--output-meta=0 --output-tuple=0"
OUTER = (4, UDP, bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2]), 59919, 4789)
INNER = (4, ICMP, bytes([10, 77, 0, 1]), bytes([10, 77, 0, 2]), 0, 0)
IPV6_TUPLE = (6, TCP, bytes(15) + b"\1", bytes(15) + b"\2", 443, 9)


def line(flags: str, record: Record, program: str = "/usr/bin/ping", **parts: bytes) -> bytes:
    output = Output(f"--output-json {flags}", program)
    octets = output.print(record._replace(tail=tail(output.config, **parts)))
    validated(octets)
    return octets


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_schema_has_every_column() -> None:
    assert set(SCHEMA["properties"]) == {column.name for column in COLUMNS} == set(KEYS)


def test_no_header() -> None:
    assert Output("--output-json").header() == ""


def test_object_of_pwru() -> None:
    """An object of pwru, with ``type``, ports and mark in addition."""
    record = event(packet(0xFF184D00C08B6300, 1, 2073), 3, flow(ifindex=1))
    assert line("", record) == (
        b'{"skb":"0xff184d00c08b6300","packet_id":1,"cpu":1,"process":"~r/bin/ping:2073",'
        b'"func":"ip_rcv","type":"function_call","netns":4026531840,"mark":0,"iface":"lo:1","proto":2048,"mtu":65536,'
        b'"len":84,"tuple":{"saddr":"127.0.0.1","daddr":"127.0.0.1","sport":0,"dport":0,"proto":1}}'
        b"\n"
    )


def test_object_of_pwru_with_tunnel() -> None:
    record = event(packet(0xFF2B046B408B5800, 1, 7), 3, flow(ends=OUTER))
    octets = line("--output-tunnel --output-meta=0", record, tunnel=records.tunnel(INNER))
    assert octets.endswith(
        b',"tuple":{"saddr":"10.9.0.1","daddr":"10.9.0.2","sport":59919,"dport":4789,"proto":17},'
        b'"tunnel_tuple":{"saddr":"10.77.0.1","daddr":"10.77.0.2","sport":0,"dport":0,"proto":1}}\n'
    )


def test_object_of_pwru_with_all_options() -> None:
    flags = (
        "--output-caller --timestamp current --output-netns-names --output-skb-cb --output-tunnel "
        "--output-stack"
    )
    record = event(packet(0xFF184D00C08B6300, 0, 2191), 3, flow(BLUE, 0x10, 2, 1500), ktime=7)
    octets = line(
        flags,
        record,
        caller=records.caller(0xFFFFFFFF81000010),
        stack=records.stack(0xFFFFFFFF81000020, 0xFFFFFFFF81000010),
    )
    assert octets == (
        b'{"skb":"0xff184d00c08b6300","packet_id":1,"cpu":0,"process":"~r/bin/ping:2191",'
        b'"func":"ip_rcv",'
        b'"type":"function_call","caller_func":"__netif_receive_skb_one_core","time":7,'
        b'"netns":4026532273,"netns_name":"blue","mark":16,"iface":"~erlongname123:2",'
        b'"proto":2048,"mtu":1500,"len":84,"cb":[0,0,0,0,0],'
        b'"tuple":{"saddr":"127.0.0.1","daddr":"127.0.0.1","sport":0,"dport":0,"proto":1},'
        b'"tunnel_tuple":{},"stack":"\\n__ip_local_out\\n__netif_receive_skb_one_core"}\n'
    )


PING = event(packet(1, 0, 7), 3, flow())


IN_XDP = event(packet(1, 0, 7, XDP), 12, flow())
IN_TC = event(packet(1, 0, 7, TC), 11, flow())
ON_MAP = event(packet(1, 0, 7, MAP_CALL), 13, flow())
DROPPED = event(packet(1, 0, 7), 5, flow(), reason=NO_SOCKET)
ARP = event(packet(1, 0, 7), 8, flow(ends=(0, 0, b"", b"", 0, 0)))
SYN_ACK = event(packet(1, 0, 7), 3, flow(ends=IPV6_TUPLE, flags=0x12))
ENDS = {"saddr": "[::1]", "daddr": "[::2]", "sport": 443, "dport": 9, "proto": 6}
SKB = b"(struct sk_buff){\n}\n"
SKB_MEMBERS = "--output-skb-metadata skb->len,skb->mark"
XDP_MEMBERS = "--output-xdp-metadata xdp->rxq->queue_index"
MEMBERS = {"metadata": records.metadata(98, 0)}
MAP = {"map": records.bpf_map(5, b"ct", b"\1\0", bytes(256))}
MAP_OBJECT = {"id": 5, "key_size": 2, "value_size": 256, "name": "ct", "key": "0100"}


@pytest.mark.parametrize(
    ("flags", "record", "parts", "key", "value"),
    [
        ("--timestamp relative", PING, {}, "time", 0),
        ("", PING, {}, "time", None),
        ("--timestamp absolute", PING._replace(ktime=5), {}, "timestamp", 5),
        ("", ARP, {}, "tuple", {}),
        ("--output-tcp-flags", SYN_ACK, {}, "tuple", ENDS | {"flags": "SYN|ACK"}),
        ("", SYN_ACK, {}, "tuple", ENDS),
        ("--output-tcp-flags", ARP, {}, "tuple", {}),
        ("--output-netns-names", PING, {}, "netns_name", None),
        ("--output-stack", PING, {}, "stack", None),
        ("--output-skb", PING, {"skb": SKB}, "skb_metadata", f"\n{SKB.decode()}"),
        ("--output-skb", PING, {}, "skb_metadata", ""),
        ("--output-skb-shared-info", PING, {"shinfo": b"{\n}\n"}, "skb_shared_info", "\n{\n}\n"),
        ("--output-skb-shared-info", PING, {}, "skb_shared_info", None),
        (SKB_MEMBERS, PING, MEMBERS, "skb_members", {"len": 98, "mark": 0}),
        (f"--filter-trace-xdp {SKB_MEMBERS}", IN_XDP, {}, "skb_members", None),
        (f"--filter-trace-xdp {XDP_MEMBERS}", IN_XDP, {}, "xdp_members", {"queue_index": 0}),
        (XDP_MEMBERS, PING, {}, "xdp_members", None),
        ("", PING, {}, "type", "function_call"),
        ("--filter-trace-xdp", IN_XDP, {}, "type", "xdp"),
        ("--filter-trace-tc", IN_TC, {}, "func", f"{records.FUNCTIONS[11]}(tc)"),
        ("--filter-trace-tc", IN_TC, {}, "cb", [0] * 5),
        ("--filter-trace-tc --output-meta=0", IN_TC, {}, "cb", None),
        ("", DROPPED, {}, "func", "sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET)"),
        ("--output-bpfmap", PING, {}, "bpfmap", None),
        ("--output-bpfmap", ON_MAP, MAP, "bpfmap", MAP_OBJECT | {"value": "00" * 256}),
    ],
)
def test_values(
    flags: str, record: Record, parts: dict[str, bytes], key: str, value: object
) -> None:
    found = json.loads(line(flags, record, "/usr/bin/ping", **parts))
    assert found.get(key) == value
    assert (key in found) == (value is not None)


def test_local_time() -> None:
    """test_text.py tests its value; here it is a string of pwru's format."""
    found = json.loads(line(f"--timestamp absolute {OFF}", PING))
    assert len(found["time"]) == len("2026-11-23T04:24:09.981")


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain", '"plain"'),
        ("<a&b>", '"<a&b>"'),
        ('"\\/', '"\\"\\\\/"'),
        ("\n\r\t\b\f", '"\\n\\r\\t\\b\\f"'),
        ("\x00\x1f", '"\\u0000\\u001f"'),
        ("é\U0001f600", '"é\U0001f600"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        (b"\xff\xc3".decode("utf-8", "surrogateescape"), '"\\ufffd\\ufffd"'),
    ],
)
def test_strings_are_encoded_as_in_go(text: str, encoded: str) -> None:
    assert encode(text) == encoded


def test_control_characters_are_escaped() -> None:
    text = "\x7f\x9b31m\u202e\u2066\u200b\ufeff\u061c"
    assert encode(text) == json.dumps(text)
    assert encode("é\u00a0") == '"é\u00a0"'


def test_process_name_that_is_not_utf8() -> None:
    program = b"/bin/<\xe9>".decode("utf-8", "surrogateescape")
    assert b'"process":"/bin/<\\ufffd>:7"' in line(OFF, PING, program)


FLAGS = (
    "--output-meta=false",
    "--output-tuple=false",
    "--output-tcp-flags",
    "--output-netns-names",
    "--output-skb-cb",
    "--output-caller",
    "--output-tunnel",
    "--output-stack",
    "--output-skb",
    "--output-skb-shared-info",
    "--output-skb-metadata=skb->len,skb->mark",
    "--output-xdp-metadata=xdp->rxq->queue_index",
    "--output-bpfmap",
    "--output-ct",
    "--filter-trace-tc",
    "--filter-trace-xdp",
    "--timestamp=absolute",
    "--timestamp=current",
    "--timestamp=relative",
)


def octets(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


# dev_valid_name() of net/core/dev.c
IFNAMES = (
    st.lists(st.sampled_from(sorted(set(range(1, 256)) - {*b" \t\n\v\f\r\xa0/:"})), max_size=15)
    .map(bytes)
    .map(lambda name: name.ljust(16, b"\0"))
)


@st.composite
def random_records(draw: st.DrawFn, layout: RecordLayout) -> Record:
    """Draw random bytes, but valid versions of IP, kinds, names and packet_ids."""
    flow_part = bytearray(draw(octets(FLOW.size)))
    flow_part[EVENT_MEMBERS["l3"].offset - EVENT_MEMBERS["netns"].offset] = draw(
        st.sampled_from([0, 4, 6])
    )
    name = EVENT_MEMBERS["ifname"].offset - EVENT_MEMBERS["netns"].offset
    flow_part[name : name + EVENT_MEMBERS["ifname"].size] = draw(IFNAMES)
    packet_part = bytearray(draw(octets(PACKET.size)))
    packet_part[14:16] = draw(st.integers(0, 6)).to_bytes(2, "little")
    function = FUNCTION.pack(draw(st.integers(0, 20)), draw(st.integers(0, 2**64 - 1)))
    tail_part = bytearray(
        draw(octets(min(layout.tail_size, 700))).ljust(layout.tail_size, draw(octets(1)))
    )
    if part := layout.parts.get("packet_id"):
        tail_part[part.offset] |= 1
        tail_part[part.offset + 5 : part.offset + part.size] = bytes(
            [draw(st.integers(0, 15)), 0, 0]
        )
    return Record(
        bytes(packet_part),
        function,
        draw(st.integers(0, 2**63)),
        bytes(flow_part),
        bytes(tail_part),
    )


@given(st.data(), st.sets(st.sampled_from(FLAGS)), st.text(max_size=20))
def test_random_records_are_valid(data: st.DataObject, flags: set[str], name: str) -> None:
    program = name.encode("utf-8", "replace").decode()
    output = Output(" ".join(["--output-json", *sorted(flags)]), program)
    batch = data.draw(st.lists(random_records(layout_of(output.config)), min_size=1, max_size=3))
    printed = output.print(*batch).splitlines(keepends=True)
    assert len(printed) == len(batch)
    for each, record in zip(printed, batch, strict=True):
        found = validated(each)
        assert found["skb"] == hex(int.from_bytes(record.packet[:8], "little"))
        assert found["cpu"] == int.from_bytes(record.packet[12:14], "little")


@pytest.mark.parametrize("flags", [(), *((flag,) for flag in FLAGS), FLAGS])
def test_jq_reads_every_key(flags: Sequence[str]) -> None:
    command_line = " ".join(["--output-json", *flags])
    output = Output(command_line)
    # Each word is 1, no text is empty; jq 1.6 rounds numbers above 2**53.
    tail_part = b"\1\0\0\0\0\0\0\0" * (layout_of(output.config).tail_size // 8)
    kinds = [0, MAP_CALL] + [TC, XDP] * ("--filter-trace-tc" in flags)
    batch = [event(packet(1, 0, 7, kind), 3, flow(), 5, tail=tail_part) for kind in kinds]
    printed = output.print(*batch)
    assert jq(printed) == [json.loads(each) for each in printed.splitlines()]
    enabled = {column.name for column in columns_of(output.config)}
    missing = enabled - set().union(*map(json.loads, printed.splitlines()))
    # A namespace without a name, members of an XDP frame.
    assert missing <= {"netns_name", "xdp_members"}
