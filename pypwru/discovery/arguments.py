"""Locate arguments by BTF: the argument that has a type, and the register of an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.types import STRUCTS, Kind

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

SKB_STRUCT = "sk_buff"
REASON_ENUM = "skb_drop_reason"
MAX_REGISTERS = 5
"""Number of arguments that a handler can read: bpf_tracing.h has 5 on every architecture."""


def argument_register(btf: BTF, proto_id: int, param_index: int) -> int | None:
    """Return the register of an argument, from 1, by the calling conventions of x86-64 and arm64.

    Both pass an integer or pointer in one register and a struct of 9 to 16 bytes in two. A larger
    struct is passed in memory on x86-64 and by a hidden pointer on arm64.

    Args:
        btf: of the prototype.
        proto_id: type id of its FUNC_PROTO.
        param_index: index of the argument, from 1.

    Returns:
        None if a struct of more than 16 bytes comes before the argument.
    """
    registers_used = 0
    for param in btf.params(proto_id)[: param_index - 1]:
        param_type = btf.type(btf.resolve(param.type))
        size = param_type.size if param_type.kind in (*STRUCTS, Kind.INT) else 8
        if size > 16:
            return None
        registers_used += 2 if size > 8 else 1
    return registers_used + 1


def find_reason_param(btf: BTF, proto_id: int) -> int | None:
    """Return the index, from 1, of the first ``enum skb_drop_reason`` argument, or None."""
    for param_index, param in enumerate(btf.params(proto_id), 1):
        found = btf.type(btf.resolve(param.type))
        if found.kind is Kind.ENUM and found.name == REASON_ENUM:
            return param_index
    return None


def find_skb_param(btf: BTF, proto_id: int) -> int | None:
    """Return the index, from 1, of the first ``struct sk_buff *`` argument, or None."""
    for param_index, param in enumerate(btf.params(proto_id), 1):
        target = btf.pointee(param.type)
        if target is None:
            continue
        found = btf.type(target)
        if found.kind is Kind.STRUCT and found.name == SKB_STRUCT:
            return param_index
    return None
