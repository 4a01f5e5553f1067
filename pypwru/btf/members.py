"""Look-up of struct and union members by name, through anonymous members as in C."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.types import STRUCTS, Field, Kind
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

# The kernel nests anonymous members 5 deep and has some 300 names in a struct. These limits stop
# at malformed BTF, in which a struct may contain itself.
MAX_DEPTH = 32
MAX_NAMES = 1 << 17


class MemberRef(NamedTuple):
    """A named member, relative to the struct that was searched.

    Args:
        type: type id of the member.
        bit_offset: from the start of the outermost struct.
        bit_size: width of a bit field; 0 for other members.
    """

    type: int
    bit_offset: int
    bit_size: int


def flatten(btf: BTF, type_id: int) -> dict[str, MemberRef]:
    """Return every member name that C accepts for STRUCT or UNION ``type_id``.

    Members of anonymous members are included, at their offset from the start of ``type_id``.

    Raises:
        BTFError: it contains itself, or refers to a type that does not exist.
    """
    found: dict[str, MemberRef] = {}
    pending = [(type_id, 0, 0)]
    steps = MAX_NAMES
    while pending:
        owner, start, depth = pending.pop()
        for member in btf.members(owner):
            steps -= 1
            if steps < 0 or depth > MAX_DEPTH:
                raise BTFError(f"BTF is malformed: the members of type id {type_id} do not end")
            bit_offset = start + member.bit_offset
            if member.name:
                found.setdefault(member.name, MemberRef(member.type, bit_offset, member.bit_size))
            elif btf.type(inner := btf.resolve(member.type)).kind in STRUCTS:
                pending.append((inner, bit_offset, depth + 1))
    return found


def resolve_path(
    btf: BTF, flattened: dict[int, dict[str, MemberRef]], type_id: int, path: str
) -> MemberRef | None:
    """Return the member ``path`` of ``type_id``, or None if there is none.

    Args:
        btf: the types that ``type_id`` is of.
        flattened: memo of ``flatten`` by type id, owned by the caller; new results are added.
        type_id: struct, union, or a typedef of one.
        path: member names joined by dots.

    Raises:
        BTFError: as ``flatten``.
    """
    current = MemberRef(type_id, 0, 0)
    for name in path.split("."):
        owner = btf.resolve(current.type)
        if btf.type(owner).kind not in STRUCTS:
            return None
        members = flattened.get(owner)
        if members is None:
            members = flattened[owner] = flatten(btf, owner)
        if name not in members:
            return None
        inner = members[name]
        current = inner._replace(bit_offset=current.bit_offset + inner.bit_offset)
    return current


def to_field(btf: BTF, member: MemberRef) -> Field:
    """Convert ``member`` to a byte offset, with the size of its type."""
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
