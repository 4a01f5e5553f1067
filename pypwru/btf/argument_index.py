"""Search for the functions that take a pointer to a given struct, as discovery needs them.

Works on the arrays of a blob: modifiers and pointers (some 20,000 records), each prototype and
each function are read once; no record is decoded into an object.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from pypwru.btf.index import VLEN_MASK
from pypwru.btf.types import MODIFIERS, Kind
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pypwru.btf.parse import Blob

MASK_BITS = 32


def functions_taking(blob: Blob, structs: Iterable[int]) -> array[int]:
    """Return the functions of ``blob``, without those of its base, that take such a pointer.

    Args:
        blob: BTF of vmlinux or of a module.
        structs: type ids of the pointed-to structs. Modifiers (const, typedefs ...) of the struct
            and of the pointer are ignored.

    Returns:
        A flat array of pairs, by ascending function: type id of the FUNC; bit mask of the matching
        arguments among the first 32, bit 0 for the first.

    Raises:
        BTFError: malformed BTF: a FUNC refers to a type that is not a FUNC_PROTO.
    """
    accepted = _pointers_to(blob, structs)
    masks: dict[int, int] = {}
    words, positions = blob.words, blob.index.positions
    found = array("I")
    for index in indexes_of(blob, Kind.FUNC):
        proto = words[positions[index] + 2]
        mask = masks.get(proto)
        if mask is None:
            mask = masks[proto] = _argument_mask(blob, proto, accepted)
        if mask:
            found.extend((index + blob.first_id, mask))
    return found


def indexes_of(blob: Blob, kind: Kind) -> list[int]:
    """Return the indexes of the blob's own records of ``kind``; add ``first_id`` for type ids."""
    kinds, number = blob.index.kinds, int(kind)
    found = []
    index = kinds.find(number)
    while index >= 0:
        found.append(index)
        index = kinds.find(number, index + 1)
    return found


def _argument_mask(blob: Blob, proto: int, accepted: set[int]) -> int:
    words, at = blob.find_record(proto)
    if words[at + 1] >> 24 & 0x7F != Kind.FUNC_PROTO:
        raise BTFError(f"BTF is malformed: type id {proto} is not the prototype that a FUNC needs")
    types = words[at + 4 : at + 3 + 2 * min(words[at + 1] & VLEN_MASK, MASK_BITS) : 2]
    if accepted.isdisjoint(types):
        return 0
    return sum(1 << index for index, type_id in enumerate(types) if type_id in accepted)


def _pointers_to(blob: Blob, structs: Iterable[int]) -> set[int]:
    modifiers: dict[int, list[int]] = {}
    pointers: dict[int, list[int]] = {}
    layer: Blob | None = blob
    while layer is not None:
        for kind in MODIFIERS:
            _add_referrers(modifiers, layer, kind)
        _add_referrers(pointers, layer, Kind.PTR)
        layer = layer.base
    targets = _closure(structs, modifiers)
    return _closure((ptr for target in targets for ptr in pointers.get(target, ())), modifiers)


def _add_referrers(referrers: dict[int, list[int]], blob: Blob, kind: Kind) -> None:
    words, positions = blob.words, blob.index.positions
    for index in indexes_of(blob, kind):
        referrers.setdefault(words[positions[index] + 2], []).append(index + blob.first_id)


def _closure(start: Iterable[int], referrers: dict[int, list[int]]) -> set[int]:
    reached = set(start)
    pending = list(reached)
    while pending:
        fresh = [
            referrer for referrer in referrers.get(pending.pop(), ()) if referrer not in reached
        ]
        reached.update(fresh)
        pending.extend(fresh)
    return reached
