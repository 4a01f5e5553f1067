"""Where BTF says that arguments are: which register an argument is in, which one has a type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.types import STRUCTS, Kind

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

PACKET = "sk_buff"
REASON = "skb_drop_reason"
REGISTERS = 5
"""How many arguments a handler can read: what bpf_tracing.h has on every architecture."""


def register(btf: BTF, proto_id: int, place: int) -> int | None:
    """The register of an argument, 1 the first, by the calling conventions of x86-64 and arm64.

    Both put an integer or pointer into one register and a struct of 9 to 16 bytes into two. A
    larger struct goes to memory on x86-64 and by a hidden pointer on arm64.

    Args:
        btf: where the prototype is.
        proto_id: its FUNC_PROTO.
        place: of the argument, 1 the first.

    Returns:
        None when a struct of more than 16 bytes comes before it.
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
    """The place, 1 the first, of the first ``enum skb_drop_reason`` argument; None without one."""
    for place, param in enumerate(btf.params(proto_id), 1):
        found = btf.type(btf.resolve(param.type))
        if found.kind is Kind.ENUM and found.name == REASON:
            return place
    return None


def place_of_packet(btf: BTF, proto_id: int) -> int | None:
    """The place, 1 the first, of the first ``struct sk_buff *`` argument; None without one."""
    for place, param in enumerate(btf.params(proto_id), 1):
        target = btf.pointee(param.type)
        if target is None:
            continue
        found = btf.type(target)
        if found.kind is Kind.STRUCT and found.name == PACKET:
            return place
    return None
