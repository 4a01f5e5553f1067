"""The column CT and the object ``ct``."""

from __future__ import annotations

import inspect
import ipaddress

import pytest

from pypwru.output import conntrack
from pypwru.wire.fields import CT
from pypwru.wire.record import struct_members, struct_size
from tests.oracles.json_schema import validated
from tests.support.records import Output, event, flow, packet, tail

# nf_conntrack_common.h: bits of enum ip_conntrack_status, and enum ip_conntrack_info.
ASSURED, CONFIRMED, SNAT, DNAT, DYING, TEMPLATE = (1 << bit for bit in (2, 3, 4, 5, 9, 11))
SEEN_REPLY = 1 << 1
ESTABLISHED, RELATED, NEW, ESTABLISHED_REPLY, RELATED_REPLY, UNTRACKED = 0, 1, 2, 3, 4, 7
NEAR, NAT_ADDRESS, FAR = "192.0.2.1", "203.0.113.1", "198.51.100.1"
TO_NAT_ADDRESS = (NEAR, NAT_ADDRESS, 4201, 80)
FROM_FAR = (FAR, NEAR, 8080, 4201)
FLAGS = "--output-ct --output-nft=false"
Ends = tuple[str, str, int, int]


def part(
    info: int,
    original: Ends | None = TO_NAT_ADDRESS,
    reply: Ends | None = FROM_FAR,
    protocol: int = 6,
    status: int = 0,
    mark: int = 0,
    zone: int = 0,
) -> bytes:
    """Return a struct part_ct."""
    if original is None or reply is None:
        return CT.pack(mark, status, info + 1, 0, 0, zone, *[b""] * 8)
    version = ipaddress.ip_address(original[0]).version
    ports = [port.to_bytes(2, "big") for ends in (original, reply) for port in ends[2:]]
    addresses = [ipaddress.ip_address(one).packed for ends in (original, reply) for one in ends[:2]]
    return CT.pack(mark, status, info + 1, version, protocol, zone, *ports, *addresses)


def text(octets: bytes, flags: str = f"{FLAGS} --output-meta=0") -> str:
    output = Output(flags)
    (line,) = output.lines(event(packet(1, 0, 7), 3, flow(), tail=tail(output.config, ct=octets)))
    before, _, after = line.partition(" ip_rcv")
    assert before.startswith("0x1 ")
    return after


def ct(octets: bytes) -> dict[str, object] | None:
    output = Output(f"--output-json {FLAGS}")
    printed = output.print(event(packet(1, 0, 7), 3, flow(), tail=tail(output.config, ct=octets)))
    found: dict[str, object] | None = validated(printed).get("ct")
    return found


def test_arguments_equal_struct_members() -> None:
    """Each member, set alone, is the argument of that name, and of no other."""
    members = {name: member for name, member in struct_members("part_ct").items() if name != "pad"}
    names = list(inspect.signature(conntrack.decode_connection).parameters)
    assert CT.size == struct_size("part_ct")
    assert names == list(members)
    for name, member in members.items():
        octets = bytearray(CT.size)
        octets[member.offset : member.offset + member.size] = b"\1" * member.size
        fields = dict(zip(names, CT.unpack(octets), strict=True))
        value = fields.pop(name)
        ones = b"\1" * member.size
        assert value in (ones, int.from_bytes(ones, "little"))
        assert not any(
            one.strip(b"\0") if isinstance(one, bytes) else one for one in fields.values()
        )


def test_packet_without_conntrack() -> None:
    assert text(bytes(CT.size)) == ""
    assert ct(bytes(CT.size)) is None


def test_header() -> None:
    assert Output(f"{FLAGS} --output-meta=0").header().endswith(" TUPLE FUNC CT\n")
    assert "CT" not in Output("--output-nft=false").header().split()


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (
            part(NEW),
            "new original 192.0.2.1:4201->203.0.113.1:80(tcp) "
            "reply 198.51.100.1:8080->192.0.2.1:4201(tcp)",
        ),
        (
            part(
                ESTABLISHED_REPLY, status=SEEN_REPLY | ASSURED | CONFIRMED | DNAT, mark=42, zone=7
            ),
            "established reply zone 7 mark 0x2a seen-reply,assured,confirmed,dnat "
            "192.0.2.1:4201->203.0.113.1:80(tcp) reply 198.51.100.1:8080->192.0.2.1:4201(tcp)",
        ),
        (
            part(NEW, (NEAR, FAR, 77, 0x0800), (FAR, NEAR, 77, 0), 1, CONFIRMED),
            "new original confirmed 192.0.2.1:0->198.51.100.1:0(icmp:type=8,code=0,id=77) "
            "reply 198.51.100.1:0->192.0.2.1:0(icmp:type=0,code=0,id=77)",
        ),
        (
            part(RELATED_REPLY, ("::1", "::2", 9, 53), ("::2", "::1", 53, 9), 17, SNAT | DYING),
            "related reply snat,dying [::1]:9->[::2]:53(udp) reply [::2]:53->[::1]:9(udp)",
        ),
        (part(UNTRACKED, None), "untracked"),
        (part(NEW, None, status=TEMPLATE | CONFIRMED, zone=7), "template zone 7"),
    ],
    ids=["new", "reply", "icmp", "ipv6", "untracked", "template"],
)
def test_texts(octets: bytes, expected: str) -> None:
    assert text(octets) == f"  {expected}"
    assert text(octets, f"{FLAGS} --output-meta=0 --output-skb-metadata skb->len").startswith(
        f"  {expected} len="
    )


@pytest.mark.parametrize(
    ("info", "state", "direction"),
    [
        (ESTABLISHED, "established", "original"),
        (RELATED, "related", "original"),
        (NEW, "new", "original"),
        (ESTABLISHED_REPLY, "established", "reply"),
        (RELATED_REPLY, "related", "reply"),
    ],
)
def test_states_and_directions(info: int, state: str, direction: str) -> None:
    found = ct(part(info, mark=0xFFFFFFFF, zone=0xFFFF, status=0xFFFFFFFF & ~TEMPLATE))
    assert found == {
        "state": state,
        "direction": direction,
        "zone": 0xFFFF,
        "mark": 0xFFFFFFFF,
        "status": [*conntrack.STATUS_NAMES.values()],
        "original": {"saddr": NEAR, "daddr": NAT_ADDRESS, "sport": 4201, "dport": 80, "proto": 6},
        "reply": {"saddr": FAR, "daddr": NEAR, "sport": 8080, "dport": 4201, "proto": 6},
    }


def test_untracked_and_template_objects() -> None:
    assert ct(part(UNTRACKED, None)) == {"state": "untracked"}
    assert ct(part(NEW, None, status=TEMPLATE, zone=7)) == {"state": "template", "zone": 7}


def test_icmp_has_no_ports() -> None:
    found = ct(part(NEW, ("::1", "::2", 77, 0x8000), ("::2", "::1", 77, 0x8100), 58))
    assert found
    assert found["reply"] == {
        "saddr": "[::2]",
        "daddr": "[::1]",
        "sport": 0,
        "dport": 0,
        "proto": 58,
        "icmp": {"type": 129, "code": 0, "id": 77},
    }


def test_zeros_are_in_objects() -> None:
    found = ct(part(NEW))
    assert found
    assert (found["zone"], found["mark"], found["status"]) == (0, 0, [])
