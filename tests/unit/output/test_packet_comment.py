"""The comment of a packet, and its direction."""

from __future__ import annotations

import pytest

from pypwru.discovery.function_tables import load_table
from pypwru.needs import Needs
from pypwru.output.packet_comment import CommentRenderer
from pypwru.pcap.direction import BROADCAST, HOST, MULTICAST, OTHERHOST, OUTGOING, epb_flags
from pypwru.wire.record import Record
from tests.support import records
from tests.support.layouts import layout_of
from tests.support.paths import DATA
from tests.support.records import (
    ACCEPT,
    BLUE,
    MAP_CALL,
    NFT_CHAIN_ENTRY,
    NFT_RULE,
    NO_SOCKET,
    POLICY,
    TC,
    configured,
    event,
    flow,
    names,
    packet,
    tail,
)

START = "skb=0x1 process=/usr/bin/ping pid=7 cpu=0 netns=4026531840"
UNTYPED = f"func=ip_rcv {START} type=function_call"


def comment(record: Record, flags: str = "", program: str = "/usr/bin/ping") -> str:
    config = configured(f"--output-pcap x.pcapng {flags}")
    whole = record._replace(tail=record.tail or tail(config))
    (rendered,) = CommentRenderer(
        layout_of(config), names(lambda pid, comm, start_stack: program)
    ).render([whole])
    return rendered.decode()


def nft_comment(part: bytes, flags: str = "", kind: int = 0, function: int = 3) -> str:
    """Return the part of the comment after ``type=``."""
    config = configured(f"--output-pcap x.pcapng {flags}")
    parts = {"nft": part} | (
        {"nft_time": records.nft_time(5)} if Needs.of(config).rule_texts else {}
    )
    record = event(packet(1, 0, 7, kind), function, flow(), tail=tail(config, **parts))
    return comment(record, flags).partition(" type=")[2]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (event(packet(1, 0, 7), 3, flow()), UNTYPED),
        (
            event(packet(0xFF184D00C08B6300, 3, 7), 3, flow(BLUE, ifindex=2)),
            "func=ip_rcv skb=0xff184d00c08b6300 process=/usr/bin/ping pid=7 cpu=3 "
            "netns=4026532273 netns_name=blue iface=averlongname123 type=function_call",
        ),
        (
            event(packet(1, 0, 7), 5, flow(), reason=NO_SOCKET),
            f"func=sk_skb_reason_drop {START} type=drop drop_reason=SKB_DROP_REASON_NO_SOCKET",
        ),
        (
            event(packet(1, 0, 7), 5, flow(), reason=70000),
            f"func=sk_skb_reason_drop {START} type=drop drop_reason=70000",
        ),
        # Text has the reason of a consumed packet; it is not a drop.
        (
            event(packet(1, 0, 7), 5, flow(), reason=1),
            f"func=sk_skb_reason_drop {START} type=function_call",
        ),
        (event(packet(1, 0, 7), 77, flow()), f"func=0x4d {START} type=function_call"),
        (event(packet(1, 0, 7), 3, flow(0)), UNTYPED.replace(" netns=4026531840", "")),
    ],
)
def test_fields_of_an_event(record: Record, expected: str) -> None:
    assert comment(record) == expected


@pytest.mark.parametrize(
    ("program", "pid", "comm", "expected"),
    [
        ("/opt/my curl", 7, b"", 'process="/opt/my curl" pid=7'),
        ('/opt/"a=b"', 7, b"", r'process="/opt/\"a=b\"" pid=7'),
        ("/opt/a\nb\udcff", 7, b"", r'process="/opt/a\nb\xff" pid=7'),
        ("/opt/üb", 7, b"", "process=/opt/üb pid=7"),
        ("", 7, b"gone now", 'process="gone now" pid=7'),
        ("", 7, b"", "pid=7"),
        ("", 0, b"swapper/0", "pid=0"),
    ],
)
def test_processes(program: str, pid: int, comm: bytes, expected: str) -> None:
    text = comment(event(packet(1, 0, pid, comm=comm), 3, flow()), program=program)
    assert f" skb=0x1 {expected} cpu=0 " in text
    assert "\n" not in text


def test_types_of_programs_and_maps() -> None:
    program = event(packet(1, 0, 7, TC), 11, flow())
    name = "bpf_prog_f7c8a1f24a6b4746_tc_dummy_prog[bpf]"
    assert comment(program, "--filter-trace-tc") == f"func={name} {START} type=tc"
    called = event(packet(1, 0, 7, MAP_CALL), 13, flow())
    assert comment(called, "--output-bpfmap").endswith(" type=map")


@pytest.mark.parametrize(
    ("part", "flags", "expected"),
    [
        (
            records.FOREIGN_DROP,
            "",
            'function_call nft.rule="no rule seen: conntrack, or another hook function"',
        ),
        (
            records.nft(12, ACCEPT, 2, [1]),
            "",
            'function_call nft.chain="inet filter input -> web" nft.rule="#12 accept" '
            "nft.verdict=accept",
        ),
        (
            records.nft(type=POLICY),
            "",
            'function_call nft.chain="inet filter input" nft.rule="policy drop" nft.verdict=drop',
        ),
        (
            records.nft(12),
            "--output-nft=text",
            'function_call nft.chain="inet filter input" nft.rule="#12 drop" nft.verdict=drop '
            r'nft.text="tcp dport 8443 counter drop comment \"no web\"" nft.comment="no web"',
        ),
        (
            records.nft(99),
            "--output-nft=text",
            'function_call nft.chain="inet filter input" nft.rule="#99 drop" nft.verdict=drop',
        ),
        (records.nft(12), "--output-nft=false", "function_call"),
    ],
)
def test_nftables(part: bytes, flags: str, expected: str) -> None:
    if "false" in flags:
        assert comment(event(packet(1, 0, 7), 3, flow()), flags) == UNTYPED
    else:
        assert nft_comment(part, flags) == expected


def test_nft_events() -> None:
    assert (
        nft_comment(records.nft(12), kind=NFT_RULE, function=14)
        == 'nft_rule nft.chain="inet filter input" nft.rule="handle 12 drop" nft.verdict=drop'
    )
    assert (
        nft_comment(records.nft(), kind=NFT_CHAIN_ENTRY, function=15)
        == 'nft_chain nft.chain="inet filter input" nft.rule=enter'
    )


def test_long_rule_text_is_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(records.RULES, 12, ('"' * 70000, "no web"))
    text = nft_comment(records.nft(12), "--output-nft=text")
    assert text.endswith(r'\"\"" nft.comment="no web"') and len(text) < 1 << 14


def test_batch_keeps_its_order() -> None:
    config = configured("--output-pcap x.pcapng")
    batch = [event(packet(skb, 0, 7), 3, flow(), tail=tail(config)) for skb in (1, 2, 1)]
    comments = CommentRenderer(layout_of(config), names()).render(batch)
    assert [one.split()[1] for one in comments] == [b"skb=0x1", b"skb=0x2", b"skb=0x1"]
    assert list(CommentRenderer(layout_of(config), names()).render([])) == []


@pytest.mark.parametrize(
    ("function", "kind", "flags"),
    [
        ("ip_rcv", HOST, 0b001_01),
        ("ip_rcv", MULTICAST, 0b010_01),
        ("tp:netif_receive_skb", BROADCAST, 0b011_01),
        ("gro_receive_skb", OTHERHOST, 0b100_01),
        ("ip_output", HOST, 0b10),  # a packet that was not received was not addressed to us
        ("tp:net_dev_queue", OUTGOING, 0b10),
        ("nf_hook_slow", HOST, 0),
        ("nf_hook_slow", OUTGOING, 0b10),
        ("nf_hook_slow", BROADCAST, 0b011_00),
        ("ip_rcv", OUTGOING, 0b01),
        ("ip_rcv", 7, 0b01),
    ],
)
def test_direction_flags(function: str, kind: int, flags: int) -> None:
    assert epb_flags(function, kind) == flags


def test_table_of_directions() -> None:
    listed = [
        name for row in load_table("directions") for word in row.names for name in word.split("/")
    ]
    assert len(listed) == len(set(listed)) and {row.key for row in load_table("directions")} == {
        "in",
        "out",
    }
    recorded = (DATA / "functions.txt").read_text()
    existing = {line.split()[0].partition("@")[0] for line in recorded.splitlines()[1:] if line}
    tracepoints = {f"tp:{name}" for row in load_table("tracepoints") for name in row.names}
    assert set(listed) - existing - tracepoints == set()
