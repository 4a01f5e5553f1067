"""A small sk_buff for expressions: every shape of member, at offsets that the tests know."""

from __future__ import annotations

import struct
from functools import cache

from pypwru.btf.parse import parse
from pypwru.btf.query import BTF
from pypwru.btf.types import Kind
from tests.data.btf_encoder import Encoder
from tests.oracles.filter_machine import PACKET

SIZE, DEVICE_SIZE = 256, 64
DEVICE = PACKET + SIZE
"""The address of the device that follows the skb in :func:`memory`."""


@cache
def btf() -> BTF:
    e = Encoder()
    u8, u16 = e.integer("unsigned char", 1), e.integer("short unsigned int", 2)
    u32, u64 = e.integer("unsigned int", 4), e.integer("long unsigned int", 8)
    s8, s32 = e.integer("signed char", 1, encoding=1), e.integer("int", 4, encoding=1)
    s64, flag = e.integer("long int", 8, encoding=1), e.integer("_Bool", 1, encoding=4)
    char, letter = e.integer("char", 1), e.integer("letter", 1, encoding=2)
    wide = e.integer("__int128", 16, encoding=1)
    be16 = e.add(Kind.TYPEDEF, "__be16", u16)
    be32 = e.add(Kind.CONST, "", e.add(Kind.TYPEDEF, "port", e.add(Kind.TYPEDEF, "__be32", u32)))
    be64 = e.add(Kind.TYPEDEF, "__be64", u64)
    state = e.enum("state", {"CLOSED": 7, "OPEN": 9})
    sign = e.enum("sign", {"MINUS": -5, "PLUS": 5}, signed=True)
    e.enum("other", {"OPEN": 77, "ELSEWHERE": 0x80000000})
    large = e.enum64("large", {"HUGE": 1 << 40})
    double = e.add(Kind.FLOAT, "double", 8)
    device = e.next_id + 1
    to_device = e.ptr(device)
    name_type = device + 1
    members = (
        ("ifindex", s32, 0), ("mtu", u32, 32), ("name", name_type, 64), ("next", to_device, 256),
        ("kind", state, 320),
    )  # fmt: skip
    assert e.struct("net_device", DEVICE_SIZE, *members) == device
    assert e.array(char, u32, 16) == name_type
    pair = e.struct("pair", 8, ("low", u32, 0), ("high", s32, 32))
    pairs, grid = e.array(pair, u32, 3), e.array(e.array(u16, u32, 3), u32, 2)
    counter = e.struct("refs", 4, ("counter", s32, 0))
    bits = e.bit_struct(
        "", 8, ("three", u8, 0, 3), ("signed_five", s32, 3, 5), ("plain", u16, 16, 0),
        ("across", u32, 34, 15), ("yes", flag, 63, 1),
    )  # fmt: skip
    union = e.struct("", 8, ("hash", u32, 0), ("whole", u64, 0), kind=Kind.UNION)
    opaque = e.ptr(e.add(Kind.FWD, "opaque"))
    cb, tail = e.array(char, u32, 48), e.array(u8, u32, 0)
    letters = e.array(u8, u32, 4)
    name = e.ptr(e.add(Kind.CONST, "", char))
    skb, anything, bytes_ = e.next_id + 3, e.ptr(0), e.ptr(u8)
    fields = (
        ("next", e.ptr(skb), 0), ("dev", to_device, 8), ("len", u32, 16),
        ("minus", s32, 20), ("u64", u64, 24), ("s64", s64, 32), ("u8", u8, 40), ("s8", s8, 41),
        ("protocol", be16, 42), ("saddr", be32, 44), ("id", be64, 48), ("", bits, 56),
        ("", union, 64), ("state", state, 72), ("sign", sign, 76), ("large", large, 80),
        ("pairs", pairs, 88), ("grid", grid, 112), ("users", counter, 124), ("cb", cb, 128),
        ("opaque", opaque, 176), ("nothing", anything, 184), ("double", double, 192),
        ("wide", wide, 200), ("flag", flag, 216), ("data", bytes_, 224), ("letter", letter, 232),
        ("letters", letters, 236), ("alias", name, 240), ("other_alias", name, 248),
        ("tail", tail, 256),
    )  # fmt: skip
    assert e.struct("sk_buff", SIZE, *((name, of, 8 * at) for name, of, at in fields)) == skb
    e.struct("xdp_buff", 8, ("data", anything, 0))
    return BTF(parse(e.bytes()))


def memory(*words: tuple[int, str, int]) -> bytes:
    """An skb and a device behind it; ``words``: offset, format of struct, value."""
    data = bytearray(SIZE + DEVICE_SIZE)
    for at, layout, value in words:
        struct.pack_into(layout, data, at, value)
    return bytes(data)
