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


class Place(NamedTuple):
    """A named member, relative to the struct that was searched.

    Args:
        type: type id of the member.
        bit_offset: from the start of the outermost struct.
        bit_size: width of a bit field; 0 for other members.
    """

    type: int
    bit_offset: int
    bit_size: int


def flatten(btf: BTF, type_id: int) -> dict[str, Place]:
    """Return every member name that C accepts for STRUCT or UNION ``type_id``.

    Members of anonymous members are included, at their offset from the start of ``type_id``.

    Raises:
        BTFError: it contains itself, or refers to a type that does not exist.
    """
    found: dict[str, Place] = {}
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
                found.setdefault(member.name, Place(member.type, bit_offset, member.bit_size))
            elif btf.type(inner := btf.resolve(member.type)).kind in STRUCTS:
                pending.append((inner, bit_offset, depth + 1))
    return found


def follow(btf: BTF, known: dict[int, dict[str, Place]], type_id: int, path: str) -> Place | None:
    """Return the member ``path`` of ``type_id``, or None if there is none.

    Args:
        btf: the types that ``type_id`` is of.
        known: memo of ``flatten`` by type id, owned by the caller; new results are added.
        type_id: struct, union, or a typedef of one.
        path: member names joined by dots.

    Raises:
        BTFError: as ``flatten``.
    """
    place = Place(type_id, 0, 0)
    for name in path.split("."):
        owner = btf.resolve(place.type)
        if btf.type(owner).kind not in STRUCTS:
            return None
        places = known.get(owner)
        if places is None:
            places = known[owner] = flatten(btf, owner)
        if name not in places:
            return None
        inner = places[name]
        place = inner._replace(bit_offset=place.bit_offset + inner.bit_offset)
    return place


def field(btf: BTF, place: Place) -> Field:
    """Convert ``place`` to a byte offset, with the size of its type."""
    bit_offset, bit_size = place.bit_offset, place.bit_size
    if not bit_size:
        bit_offset, bit_size = _narrow(btf, place)
    offset, rest = divmod(bit_offset, 8)
    return Field(offset, rest, bit_size, btf.size(place.type), place.type)


def _narrow(btf: BTF, place: Place) -> tuple[int, int]:
    """Return bit offset and width of a bit field in BTF without kind_flag (before Linux 5.0).

    There it is an INT with fewer bits than its bytes hold. The width of other members is 0.
    """
    bare = btf.type(btf.resolve(place.type))
    if bare.kind is not Kind.INT:
        return place.bit_offset, 0
    integer = btf.integer(bare.id)
    if integer.bits == bare.size * 8:
        return place.bit_offset, 0
    return place.bit_offset + integer.bit_offset, integer.bits
