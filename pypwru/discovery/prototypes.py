"""Locate arguments by BTF: the argument that has a type, and the register of an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.types import STRUCTS, Kind

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

PACKET = "sk_buff"
REASON = "skb_drop_reason"
REGISTERS = 5
"""Number of arguments that a handler can read: bpf_tracing.h has 5 on every architecture."""


def register(btf: BTF, proto_id: int, place: int) -> int | None:
    """Return the register of an argument, from 1, by the calling conventions of x86-64 and arm64.

    Both pass an integer or pointer in one register and a struct of 9 to 16 bytes in two. A larger
    struct is passed in memory on x86-64 and by a hidden pointer on arm64.

    Args:
        btf: of the prototype.
        proto_id: type id of its FUNC_PROTO.
        place: index of the argument, from 1.

    Returns:
        None if a struct of more than 16 bytes comes before the argument.
    """
    taken = 0
    for param in btf.params(proto_id)[: place - 1]:
        found = btf.type(btf.resolve(param.type))
        wide = found.size if found.kind in (*STRUCTS, Kind.INT) else 8
        if wide > 16:
            return None
        taken += 2 if wide > 8 else 1
    return taken + 1


def place_of_reason(btf: BTF, proto_id: int) -> int | None:
    """Return the index, from 1, of the first ``enum skb_drop_reason`` argument, or None."""
    for place, param in enumerate(btf.params(proto_id), 1):
        found = btf.type(btf.resolve(param.type))
        if found.kind is Kind.ENUM and found.name == REASON:
            return place
    return None


def place_of_packet(btf: BTF, proto_id: int) -> int | None:
    """Return the index, from 1, of the first ``struct sk_buff *`` argument, or None."""
    for place, param in enumerate(btf.params(proto_id), 1):
        target = btf.pointee(param.type)
        if target is None:
            continue
        found = btf.type(target)
        if found.kind is Kind.STRUCT and found.name == PACKET:
            return place
    return None
