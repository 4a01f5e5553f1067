"""Look-up of struct and union members by name, through anonymous members as in C."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.btf.types import STRUCTS, Field, Kind, MemberRef
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from pypwru.btf.query import BTF


def find_member(btf: BTF, struct_name: str, path: str) -> Field:
    """Return the offset and size of a struct member.

    Args:
        btf: the types to search.
        struct_name: of a struct, a union, or a typedef of one, without ``struct``.
        path: member names joined by dots; those of anonymous members as in C.

    Raises:
        BTFError: no such struct; none of that name has the member; malformed BTF.
    """
    ids = btf.find(struct_name, *STRUCTS) or btf.find(struct_name, Kind.TYPEDEF)
    if not ids:
        raise BTFError(f"no struct {struct_name} in this kernel's BTF")
    for type_id in ids:
        if ref := _follow_path(btf, type_id, path):
            return to_field(btf, ref)
    raise BTFError(f"no member {path} in struct {struct_name} of this kernel's BTF")


def has_member(btf: BTF, struct_name: str, path: str) -> bool:
    """Return whether ``find_member`` finds it, with the same arguments."""
    try:
        find_member(btf, struct_name, path)
    except BTFError:
        return False
    return True


def _follow_path(btf: BTF, type_id: int, path: str) -> MemberRef | None:
    """Return the member ``path`` of a struct, a union, or a typedef of one; None without it."""
    current = MemberRef(type_id, 0, 0)
    for name in path.split("."):
        owner = btf.resolve(current.type)
        if btf.type(owner).kind not in STRUCTS:
            return None
        inner = btf.flat_members(owner).get(name)
        if inner is None:
            return None
        current = inner._replace(bit_offset=current.bit_offset + inner.bit_offset)
    return current


def to_field(btf: BTF, member: MemberRef) -> Field:
    """Convert a member to a byte offset, with the size of its type.

    Raises:
        BTFError: its type has no size.
    """
    bit_offset, bit_size = member.bit_offset, member.bit_size
    if not bit_size:
        bit_offset, bit_size = _legacy_bitfield(btf, member)
    offset, rest = divmod(bit_offset, 8)
    return Field(offset, rest, bit_size, btf.size(member.type), member.type)


def _legacy_bitfield(btf: BTF, member: MemberRef) -> tuple[int, int]:
    """Return bit offset and width of a bit field in BTF without kind_flag (before Linux 5.0).

    There it is an INT with fewer bits than its bytes hold. The width of other members is 0.
    """
    resolved = btf.type(btf.resolve(member.type))
    if resolved.kind is not Kind.INT:
        return member.bit_offset, 0
    integer = btf.integer(resolved.id)
    if integer.bits == resolved.size * 8:
        return member.bit_offset, 0
    return member.bit_offset + integer.bit_offset, integer.bits
