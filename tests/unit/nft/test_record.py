"""nft events and verdicts, as columns and as a JSON object."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypwru.kernel.netfilter import FAMILIES, VERDICTS, family_name, hook_name, verdict_name
from pypwru.needs import Needs
from pypwru.nft.record import EMPTY_NFT, NFT, append_text, chain_handle, decode_nft, decode_rule_key
from pypwru.wire.record import EVENT_SIZE, Record, header_constants
from tests.oracles.json_schema import validated
from tests.support import records
from tests.support.records import (
    ACCEPT,
    ARP,
    BRIDGE,
    DROP,
    GOTO,
    HOST,
    INET,
    IP,
    JUMP,
    LEGACY,
    NETDEV,
    NFT_CHAIN_ENTRY,
    NFT_CHAIN_EXIT,
    NFT_RULE,
    POLICY,
    RENAMED,
    RETURN,
    RULE,
    Output,
    event,
    flow,
    packet,
    tail,
)

OFF = "--output-meta=0 --output-tuple=0"
START = "0x1                0   /usr/bin/ping:7  "
CONTINUE, BREAK, RETURNED = -1, -2, -5
SECOND = 1_000_000_000  # from then on, records.rule_text has no texts


def nft_record(
    output: Output, part: bytes, kind: int = 0, function: int = 0, at: int = 5
) -> Record:
    """Return a record with the nft part ``part``; of ip_rcv unless it is an nft event."""
    target = function or {0: 3, NFT_RULE: 14}.get(kind, 15)
    parts = {"nft": part} | (
        {"nft_time": records.nft_time(at)} if Needs.of(output.config).rule_texts else {}
    )
    return event(packet(1, 0, 7, kind), target, flow(), tail=tail(output.config, **parts))


def line(part: bytes, kind: int = 0, flags: str = "", function: int = 0, at: int = 5) -> str:
    output = Output(f"{OFF} {flags}")
    lines = output.lines(nft_record(output, part, kind, function, at))
    assert len(lines) == 1 and lines[0].startswith(START)
    return lines[0].removeprefix(START)


TRACE_PACKET, DO_CHAIN = "__nft_trace_packet[nf_tables]", "nft_do_chain[nf_tables]"


@pytest.mark.parametrize(
    ("part", "kind", "expected"),
    [
        (EMPTY_NFT, 0, "ip_rcv"),
        (records.nft(12), NFT_RULE, f"{TRACE_PACKET}  inet filter input  handle 12 drop"),
        (
            records.nft(12, ACCEPT, 2, [1]),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter web  handle 12 accept",
        ),
        (
            records.nft(12, JUMP, target=2),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter input  handle 12 jump web",
        ),
        (
            records.nft(12, GOTO, target=2),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter input  handle 12 goto web",
        ),
        (
            records.nft(12, JUMP, target=99),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter input  handle 12 jump ?99",
        ),
        (
            records.nft(12, CONTINUE),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter input  handle 12 continue",
        ),
        (
            records.nft(12, 3 | 5 << 16),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter input  handle 12 queue",
        ),
        (
            records.nft(12, RETURNED, 2, [1]),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter web  handle 12 return",
        ),
        (
            records.nft(0, CONTINUE, 2, [1], type=RETURN),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter web  return",
        ),
        (records.nft(0, CONTINUE, 2, [1]), NFT_RULE, f"{TRACE_PACKET}  inet filter web  return"),
        (records.nft(0, DROP), NFT_RULE, f"{TRACE_PACKET}  inet filter input  handle ? drop"),
        (records.nft(0, DROP), 0, "ip_rcv  inet filter input  #? drop"),
        (
            records.nft(0, DROP, type=POLICY),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter input  policy drop",
        ),
        (records.nft(0, 0, type=0), NFT_CHAIN_ENTRY, f"{DO_CHAIN}  inet filter input  enter"),
        (records.nft(0, DROP, type=0), NFT_CHAIN_EXIT, f"{DO_CHAIN}  inet filter input  exit drop"),
        (records.nft(12), 0, "ip_rcv  inet filter input  #12 drop"),
        (records.nft(12, DROP, 2, [1]), 0, "ip_rcv  inet filter input -> web  #12 drop"),
        (records.nft(0, ACCEPT, type=POLICY), 0, "ip_rcv  inet filter input  policy accept"),
        (
            records.nft(12, DROP, 6, [1, 2, 3, 4], depth=6),
            0,
            "ip_rcv  inet filter input -> web -> deep -> deeper -> ... -> last  #12 drop",
        ),
        (
            records.nft(12, DROP, 5, [1, 2, 3, 4]),
            0,
            "ip_rcv  inet filter input -> web -> deep -> deeper -> deepest  #12 drop",
        ),
        (records.nft(12, chain=77, table=78), 0, "ip_rcv  inet ?78 ?77  #12 drop"),
        (
            records.nft(12, JUMP, 2 | RENAMED, [1 | RENAMED], target=3 | RENAMED),
            NFT_RULE,
            f"{TRACE_PACKET}  inet filter shop  handle 12 jump ?3",
        ),
        (
            records.nft(table=0xFF110000, chain=0, family=IP, type=LEGACY),
            NFT_RULE,
            f"{TRACE_PACKET}  ip mangle INPUT  legacy drop",
        ),
        (
            records.nft(table=0xFF110000, chain=0, family=ARP, hook=1, type=LEGACY),
            0,
            "ip_rcv  arp mangle OUTPUT  legacy drop",
        ),
        (records.FOREIGN_DROP, 0, "ip_rcv  no rule seen: conntrack, or another hook function"),
    ],
)
def test_columns(part: bytes, kind: int, expected: str) -> None:
    assert line(part, kind) == expected
    # The same with the printer's column groups, in a run with more parts.
    with_tunnel = line(part, kind, "--output-tunnel")
    assert with_tunnel == f"{expected} :0->:0()"


@pytest.mark.parametrize("flags", ["", "--output-nft=text", "--output-nft=hook", "--output-caller"])
def test_line_without_nft_part(flags: str) -> None:
    plain = flags.replace("--output-nft=text", "").replace("--output-nft=hook", "")
    assert line(EMPTY_NFT, 0, flags) == line_without_nft(plain)


def line_without_nft(flags: str) -> str:
    output = Output(f"{OFF} --output-nft=false {flags}")
    lines = output.lines(event(packet(1, 0, 7), 3, flow(), tail=tail(output.config)))
    return lines[0].removeprefix(START)


def test_position_of_columns() -> None:
    flags = "--output-caller --output-tunnel --output-skb-metadata skb->len"
    assert line(records.nft(12), 0, flags) == (
        "ip_rcv 0x0  inet filter input  #12 drop len=0 mark=0 :0->:0()"
    )


def test_equal_parts_differ_by_event_kind() -> None:
    """The printer caches texts by the bytes of the part, which are equal here."""
    output = Output(OFF)
    part = records.nft(12, DROP, 2, [1])
    batch = [nft_record(output, part, kind) for kind in (NFT_RULE, 0, NFT_RULE, 0)]
    assert [line.partition("]")[2] or line for line in output.lines(*batch)] == [
        "  inet filter web  handle 12 drop",
        f"{START}ip_rcv  inet filter input -> web  #12 drop",
    ] * 2


TEXT, _ = records.RULES[12]


@pytest.mark.parametrize(
    ("part", "kind", "at", "expected"),
    [
        (records.nft(12), NFT_RULE, 5, f"handle 12 drop: {TEXT}"),
        (records.nft(12), 0, 5, f"#12 drop: {TEXT}"),
        (records.nft(13, CONTINUE), NFT_RULE, 5, "handle 13 continue: counter"),
        (
            records.nft(14),
            0,
            5,
            '#14 drop: -A INPUT -p tcp -m comment --comment "no web" -j DROP',
        ),
        (records.nft(15), 0, 5, '#15 drop # "no web"'),
        (records.nft(12, JUMP, target=2), NFT_RULE, SECOND, "handle 12 (text unknown) jump web"),
        (records.nft(12), 0, SECOND, "#12 (text unknown) drop"),
        (records.nft(99), 0, 5, "#99 (text unknown) drop"),
        (records.nft(0, DROP, type=POLICY), 0, 5, "policy drop"),
        (records.nft(0, CONTINUE, type=RETURN), NFT_RULE, 5, "return"),
        (records.nft(0, 0, type=0), NFT_CHAIN_ENTRY, 5, "enter"),
        (records.nft(0, 0, chain=0, type=LEGACY), 0, 5, "legacy drop"),
        (records.FOREIGN_DROP, 0, 5, "no rule seen: conntrack, or another hook function"),
    ],
)
def test_rule_texts(part: bytes, kind: int, at: int, expected: str) -> None:
    assert line(part, kind, "--output-nft=text", at=at).rpartition("  ")[2] == expected


def test_text_depends_on_event_time() -> None:
    """The handle of a rule was reused; the bytes of the part are equal."""
    output = Output(f"{OFF} --output-nft=text")
    part = records.nft(13)
    batch = [nft_record(output, part, at=at) for at in (5, SECOND, 5)]
    assert [line.rpartition("  ")[2] for line in output.lines(*batch)] == [
        "#13 drop: counter",
        "#13 (text unknown) drop",
        "#13 drop: counter",
    ]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (records.nft(12, priority=-10), "#12 drop  input/-10"),
        (
            records.nft(0, ACCEPT, hook=4, type=POLICY, priority=100),
            "policy accept  postrouting/100",
        ),
        (records.nft(12, family=NETDEV, hook=0), "#12 drop  ingress/0"),
        (records.FOREIGN_DROP, "ip_rcv  no rule seen: conntrack, or another hook function"),
        (EMPTY_NFT, "ip_rcv"),
    ],
)
def test_hooks(part: bytes, expected: str) -> None:
    assert line(part, 0, "--output-nft=hook").endswith(expected)


FULL = {
    "family": "inet",
    "table": "filter",
    "chain": "web",
    "chain_handle": 2,
    "rule_handle": 12,
    "verdict": "drop",
    "depth": 1,
    "hook": "input",
    "priority": -10,
    "text": TEXT,
    "comment": "no web",
    "path": ["input", "web"],
}


def without(*keys: str, **changed: object) -> dict[str, object]:
    return {key: value for key, value in FULL.items() if key not in keys} | changed


NO_RULE = ("rule_handle", "text", "comment")


@pytest.mark.parametrize(
    ("part", "kind", "at", "event_type", "members"),
    [
        (records.nft(12, DROP, 2, [1], priority=-10), NFT_RULE, 5, "nft_rule", FULL),
        (records.nft(12, DROP, 2, [1], priority=-10), 0, 5, "function_call", FULL),
        (
            records.nft(12, DROP, 2, [1], priority=-10),
            0,
            SECOND,
            "function_call",
            without("comment", text=None),
        ),
        (
            records.nft(12, JUMP, 2, [1], target=3, priority=-10),
            NFT_RULE,
            5,
            "nft_rule",
            without(verdict="jump", target="deep"),
        ),
        (
            records.nft(12, DROP, 2 | RENAMED, [1], priority=-10),
            NFT_RULE,
            5,
            "nft_rule",
            without(chain="shop", path=["input", "shop"]),
        ),
        (
            records.nft(0, ACCEPT, 2, [1], priority=-10, type=POLICY),
            NFT_RULE,
            5,
            "nft_rule",
            without(*NO_RULE, verdict="accept", policy="accept"),
        ),
        (
            records.nft(0, 0, 2, [1], priority=-10, type=0),
            NFT_CHAIN_ENTRY,
            5,
            "nft_chain",
            without(*NO_RULE, "verdict"),
        ),
        (
            records.nft(0, ACCEPT, 2, [1], priority=-10, type=0),
            NFT_CHAIN_EXIT,
            5,
            "nft_chain",
            without(*NO_RULE, verdict="accept"),
        ),
        (
            records.nft(0, DROP, 0, type=LEGACY, table=8, priority=-10, family=IP),
            NFT_RULE,
            5,
            "nft_rule",
            without(
                *NO_RULE, "chain_handle", family="ip", table="nat", chain="INPUT", depth=0,
                path=["INPUT"],
            ),
        ),
        (
            records.nft(12, DROP, 6, [1, 2, 3, 4], depth=6, priority=-10),
            0,
            5,
            "function_call",
            without(
                chain="last", chain_handle=6, depth=6,
                path=["input", "web", "deep", "deeper", None, None, "last"],
            ),
        ),
        (
            records.FOREIGN_DROP, 0, 5, "function_call",
            {"no_rule": "conntrack, or another hook function"},
        ),
        (EMPTY_NFT, 0, 5, "function_call", None),
    ],
)  # fmt: skip
def test_objects(
    part: bytes, kind: int, at: int, event_type: str, members: dict[str, object] | None
) -> None:
    output = Output(f"--output-json {OFF}")
    found = validated(output.print(nft_record(output, part, kind, at=at)))
    assert found["type"] == event_type
    assert found.get("nft") == members
    assert ("nft" in found) == (members is not None)


def test_drop_has_reason_and_rule() -> None:
    output = Output(f"--output-json {OFF}")
    drop = nft_record(output, records.nft(12, DROP, 2, [1]), function=5)
    address = drop.func[:8]
    for reason, event_type in (
        (0, "function_call"),
        (1, "function_call"),
        (3, "drop"),
        (9, "drop"),
    ):
        variant = drop._replace(func=address + reason.to_bytes(8, "little"))
        found = json.loads(output.print(variant))
        assert (found["type"], found["nft"]["rule_handle"]) == (event_type, 12)


def test_names_of_every_number() -> None:
    """The names are nft's; the numbers are those of linux/netfilter*.h."""
    assert [verdict_name(number) for number in range(6)] == [
        "drop", "accept", "stolen", "queue", "repeat", "stop",
    ]  # fmt: skip
    assert verdict_name(-7) == "-7" and verdict_name(0x60 << 16) == "drop"
    assert verdict_name(header_constants()["VERDICT_ROUTE"]) == "route"
    assert set(VERDICTS.values()) == {verdict_name(number) for number in range(-5, 7)}
    assert [family_name(number) for number in (1, 2, 3, 5, 7, 10, 12)] == [
        "inet", "ip", "arp", "netdev", "bridge", "ip6", "12",
    ]  # fmt: skip
    common = ["prerouting", "input", "forward", "output", "postrouting"]
    for family in (INET, IP, BRIDGE):
        assert [hook_name(FAMILIES[family], hook) for hook in range(5)] == common
    assert [hook_name(family, 5) for family in ("inet", "bridge")] == ["ingress", "brouting"]
    assert hook_name("ip6", 9) == "9"
    assert [hook_name("arp", hook) for hook in range(3)] == ["input", "output", "forward"]
    assert [hook_name("netdev", hook) for hook in range(3)] == ["ingress", "egress", "2"]


@given(st.binary(min_size=NFT.size, max_size=NFT.size), st.integers(0, 6), st.text(), st.text())
def test_appended_text_is_decoded(part: bytes, kind: int, text: str, comment: str) -> None:
    extended = part + kind.to_bytes(2, "little")
    text, comment = (
        word.replace("\0", "").encode(errors="replace").decode() for word in (text, comment)
    )
    decoded = decode_nft(append_text(extended, text, comment))
    if part == EMPTY_NFT:
        assert decoded is None
        return
    assert decoded is not None
    assert (decoded.kind, decoded.text, decoded.comment) == (kind, text, comment)
    bare = decode_nft(extended)
    assert bare is not None and bare.text is None
    assert bare._replace(text=text, comment=comment) == decoded
    assert decode_rule_key(extended) == (
        decoded.netns,
        decoded.table,
        chain_handle(decoded.chain),
        decoded.rule,
    )


def test_size_of_the_nft_part() -> None:
    assert len(nft_record(Output(), EMPTY_NFT).tail) == NFT.size == 80
    assert EVENT_SIZE % 8 == 0 and HOST and RULE
