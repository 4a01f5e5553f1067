"""Members to print: how they are read, and formatted as pwru does."""

from __future__ import annotations

import struct

import pytest

from pypwru.errors import FilterError
from pypwru.expr import MetadataMembers, compile_members
from tests.data.expression_btf import DEVICE, btf, memory
from tests.oracles.filter_machine import PACKET, STACK_SIZE, STACK_TOP, Machine

OUT = STACK_TOP - 32
SKB = memory(
    (8, "<Q", DEVICE),
    (16, "<I", 0x80000001),
    (20, "<i", -1),
    (24, "<Q", 2**64 - 2),
    (32, "<q", -7),
    (40, "<B", 200),
    (41, "<b", -100),
    (42, ">H", 0x0800),
    (56, "<Q", 0b101 | 0b10000 << 3 | 0x5555 << 34 | 1 << 63),
    (72, "<I", 9),
    (76, "<i", -5),
    (88, "<Q", 0xFFFFFFFE00000001),
    (112, "<Q", 0x0004000300020001),
    (128, "<Q", int.from_bytes(b"abcdefgh", "little")),
    (216, "<B", 1),
    (232, "<B", 65),
    (256, "<i", 3),
)


def run_members(members: MetadataMembers, data: bytes = SKB) -> tuple[int, ...]:
    """Run the program, and return the array of values that it fills, uninitialized before."""
    machine = Machine(data)
    machine.arguments = (PACKET, OUT, 0, 0)
    program = members.body(-32)
    machine.registers = [None] * 11
    machine.run(program)
    cells = machine.stack[STACK_SIZE - 32 :]
    return struct.unpack("<4Q", bytes(cell for cell in cells if cell is not None))


def formatted(*texts: str, data: bytes = SKB) -> str:
    members = compile_members(texts, "skb", btf())
    return members.format_text(run_members(members, data))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("skb->len", " len=2147483649"),
        ("skb.len", " len=2147483649"),
        ("skb->minus", " minus=-1"),
        ("skb->u64", " u64=18446744073709551614"),
        ("skb->s64", " s64=-7"),
        ("skb->u8", " u8=200"),
        ("skb->s8", " s8=-100"),
        ("skb->protocol", " protocol=8"),
        ("skb->three", " three=5"),
        ("skb->signed_five", " signed_five=-16"),
        ("skb->across", " across=21845"),
        ("skb->yes", " yes=true"),
        ("skb->flag", " flag=true"),
        ("skb->state", " state=OPEN"),
        ("skb->dev->kind", " kind=0"),
        ("skb->sign", " sign=MINUS"),
        ("skb->dev", f" dev={DEVICE:#x}"),
        ("skb->opaque", " opaque=0x0"),
        ("skb->dev->ifindex", " ifindex=3"),
        ("skb->dev.ifindex", " ifindex=3"),
        ("skb->dev->next->ifindex", " ifindex=0"),
        ("skb->dev->next->next->next->mtu", " mtu=0"),
        ("skb->letter", " letter='A'"),
        ("skb->cb[3]", " cb[3]=100"),
        ("skb->grid[0][1]", " grid[0][1]=2"),
        ("skb->pairs[0]", ' pairs[0]={"low": 1, "high": -2}'),
        ("skb->users", ' users={"counter": 0}'),
        ("skb->grid[0]", " grid[0]=[1, 2, 3]"),
        ("skb->letters", " letters=[0, 0, 0, 0]"),
        ("skb->double", " double=..ERR.."),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert formatted(text) == expected


def test_four_members_and_empty_ones() -> None:
    texts = ("skb->len", "", "skb->dev->next->mtu", "skb->flag")
    assert formatted(*texts) == " len=2147483649 mtu=0 flag=true"
    members = compile_members(texts, "skb", btf())
    assert run_members(members) == (0x80000001, 0, 1, 0)
    assert compile_members([], "skb", btf()).format_text(()) == ""


def test_values_for_json() -> None:
    texts = ["skb->flag", "skb->state", "skb->pairs[0]", "skb->dev"]
    members = compile_members(texts, "skb", btf())
    assert members.json_values(run_members(members)) == {
        "flag": True,
        "state": "OPEN",
        "pairs[0]": {"low": 1, "high": -2},
        "dev": f"{DEVICE:#x}",
    }
    twice = compile_members(["skb->next", "skb->dev->next", "skb->len"], "skb", btf())
    assert twice.json_values((1, 2, 3)) == {"skb->next": "0x1", "skb->dev->next": "0x2", "len": 3}


def test_characters_and_strings() -> None:
    letter = compile_members(["skb->letter"], "skb", btf())
    assert [letter.format_text((ord(c),)) for c in "a'\\"] == [
        " letter='a'",
        " letter='\\''",
        " letter='\\\\'",
    ]
    assert letter.format_text((7,)) == " letter=0x7"


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["a"] * 5, "Failed to parse skb metadata exprs: too many skb metadata exprs, max 4"),
        (["mark"], "--output-skb-metadata must start with skb"),
        (["skb"], "--output-skb-metadata 'skb': column 1: name a member of skb, such as skb->len"),
        (["skb->cb"], "column 6: skb metadata field 'cb' (char[48]) is too large, max 8 bytes"),
        (["skb->dev->name"], "metadata field 'name' (char[16]) is too large, max 8 bytes"),
        (["skb->tail"], "column 6: unsigned char[0] has no size"),
        (["skb->len + 1"], "column 10: a member of skb is expected"),
        (["skb->nosuch"], "column 6: struct sk_buff has no member nosuch"),
        (["skb->len", "skb->len["], "'skb->len[': column 10: a member, a number or '('"),
    ],
)
def test_errors(texts: list[str], problem: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_members(texts, "skb", btf())
    assert problem in str(caught.value)


def test_full_stack_is_an_error() -> None:
    members = compile_members(["skb->len"], "skb", btf())
    assert members.body(-488)
    with pytest.raises(FilterError, match=r"--output-skb-metadata: .*stack"):
        members.body(-490)
