"""Members of structs and unions by name, anonymous ones seen through as C does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf.types import STRUCTS, Field, Kind
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from pypwru.btf.query import BTF

# The kernel nests anonymous members 5 deep and has some 300 names in a struct; these end malformed
# BTF, whose structs may contain themselves.
MAX_DEPTH = 32
MAX_NAMES = 1 << 17


class Place(NamedTuple):
    """A named member: its type, its first bit from the start of the outer struct, its bit size."""

    type: int
    bit_offset: int
    bit_size: int


def flatten(btf: BTF, type_id: int) -> dict[str, Place]:
    """Every name that ``type_id``, a STRUCT or UNION, gives to C.

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
    """Where ``path``, names joined by dots, is in ``type_id``; None if it is not there.

    Args:
        known: what ``flatten`` gave for earlier paths, by type id; added to.
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
    """``place`` in bytes, with the size of its type."""
    bit_offset, bit_size = place.bit_offset, place.bit_size
    if not bit_size:
        bit_offset, bit_size = _narrow(btf, place)
    offset, rest = divmod(bit_offset, 8)
    return Field(offset, rest, bit_size, btf.size(place.type), place.type)


def _narrow(btf: BTF, place: Place) -> tuple[int, int]:
    """Before kind_flag (Linux 5.0), a bit field was an INT narrower than its own bytes."""
    bare = btf.type(btf.resolve(place.type))
    if bare.kind is not Kind.INT:
        return place.bit_offset, 0
    integer = btf.integer(bare.id)
    if integer.bits == bare.size * 8:
        return place.bit_offset, 0
    return place.bit_offset + integer.bit_offset, integer.bits
