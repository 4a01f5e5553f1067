"""Queries on BTF, served from its index; a type is decoded only when a query needs it.

``BTF`` decodes one type by its id, finds ids by name, and lists functions and tracepoints: one long
class, since all of that reads records of one blob. What combines its answers is a function of its
own: struct members by path in ``members``, enums by name in ``enums``, C declarations in
``declare``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pypwru.btf.index import VLEN_MASK
from pypwru.btf.types import (
    KINDS,
    LEAF_KINDS,
    MODIFIERS,
    SIZED,
    STRUCTS,
    Array,
    Integer,
    Kind,
    Member,
    MemberRef,
    Param,
    Type,
)
from pypwru.errors import BTFError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pypwru.btf.parse import Blob

# The kernel itself rejects deeper chains (MAX_RESOLVE_DEPTH in kernel/bpf/btf.c).
MAX_CHAIN = 32
# The kernel nests anonymous members 5 deep and has some 300 names in a struct. These limits stop
# at malformed BTF, in which a struct may contain itself.
MAX_DEPTH = 32
MAX_NAMES = 1 << 17
INDEXED_STRUCT = "sk_buff"  # the struct that Index.skb_functions is computed for


class BTF:
    """The types of a kernel, or of a module on top of its kernel's.

    Type ids are those of the blob; 0 is void. Every method raises BTFError for malformed data and
    for an id that does not exist.

    Args:
        blob: result of ``parse``; or a function that returns it, called at the first query.
        identity: key of these types in caches; None for the digest of their bytes.
    """

    def __init__(self, blob: Blob | Callable[[], Blob], identity: str | None = None) -> None:
        self._read_blob = blob if callable(blob) else lambda: blob
        self._identity = identity
        self._ids_by_name: dict[str, list[int]] = {}
        self._flat_members: dict[int, dict[str, MemberRef]] = {}
        self._pointer_size = 0

    @cached_property
    def blob(self) -> Blob:
        """The parsed BTF, read at the first access."""
        return self._read_blob()

    @property
    def digest(self) -> str:
        """Digest of the bytes of these types and of their base."""
        return self.blob.digest

    @property
    def identity(self) -> str:
        """Key of these types in caches; known before they are read if it was given."""
        return self._identity or self.digest

    @property
    def pointer_size(self) -> int:
        """Bytes of a pointer. BTF doesn't record them: those of ``long``, as in libbpf."""
        if not self._pointer_size:
            longs = self.find("long unsigned int", Kind.INT) + self.find("long int", Kind.INT)
            self._pointer_size = self.type(longs[0]).size if longs else 8
        return self._pointer_size

    def ids(self) -> range:
        """Return the type ids of this blob, without those of its base."""
        return range(self.blob.first_id, self.blob.end_id)

    def type(self, type_id: int) -> Type:
        """Decode the record of ``type_id``."""
        if type_id == 0:
            return Type(0, Kind.VOID, "void", 0, False, 0, 0)
        words, at = self.blob.find_record(type_id)
        name, info, last = words[at : at + 3]
        try:
            kind = KINDS[info >> 24 & 0x7F]
        except IndexError:
            raise BTFError(
                f"BTF kind {info >> 24 & 0x7F} (of type id {type_id}) is not known to this version "
                "of pypwru: update it"
            ) from None
        size = last if kind in SIZED else 0
        target_id = 0 if kind in LEAF_KINDS else words[at + 3] if kind is Kind.ARRAY else last
        return Type(
            type_id, kind, self._string(name), info & VLEN_MASK, info >> 31 == 1, size, target_id
        )

    def find(self, name: str, *kinds: Kind) -> list[int]:
        """Return the ids, ascending, of the types named ``name``, of ``kinds`` (default: any)."""
        ids = self._ids_by_name.get(name)
        if ids is None:
            ids = self._ids_by_name[name] = self.blob.ids_named(
                name.encode(errors="backslashreplace")
            )
        if not kinds:
            return list(ids)
        return [found for found in ids if self.type(found).kind in kinds]

    def resolve(self, type_id: int) -> int:
        """Strip typedefs, const, volatile, restrict and type tags off ``type_id``."""
        start = type_id
        for _ in range(MAX_CHAIN):
            if type_id == 0:
                return 0
            words, at = self.blob.find_record(type_id)
            if words[at + 1] >> 24 & 0x7F not in MODIFIERS:
                return type_id
            type_id = words[at + 2]
        raise BTFError(f"BTF is malformed: type id {start} does not resolve")

    def pointee(self, type_id: int) -> int | None:
        """Return the type id that pointer ``type_id`` points to; None if it is not a pointer.

        Modifiers of both are resolved.
        """
        found = self.type(self.resolve(type_id))
        return self.resolve(found.type) if found.kind is Kind.PTR else None

    def size(self, type_id: int) -> int:
        """Return sizeof ``type_id``, in bytes.

        Raises:
            BTFError: the type has no size (void, a function, a forward declaration).
        """
        start, count = type_id, 1
        for _ in range(MAX_CHAIN):
            found = self.type(self.resolve(type_id))
            if found.kind is Kind.ARRAY:
                count *= self.array(found.id).nelems
            elif found.kind is Kind.PTR:
                return count * self.pointer_size
            elif found.kind is not Kind.VAR:
                if found.kind not in SIZED:
                    raise BTFError(f"BTF type id {start} ({found.kind.name}) has no size")
                return count * found.size
            type_id = found.type
        raise BTFError(f"BTF is malformed: type id {start} has no end")

    def array(self, type_id: int) -> Array:
        """Return element type, index type and length of ARRAY ``type_id``."""
        words, at = self._record(type_id, Kind.ARRAY)
        return Array(*words[at + 3 : at + 6])

    def integer(self, type_id: int) -> Integer:
        """Return the encoding of INT ``type_id``."""
        words, at = self._record(type_id, Kind.INT)
        word = words[at + 3]
        return Integer(word >> 24 & 0xF, word >> 16 & 0xFF, word & 0xFF)

    def params(self, proto_id: int) -> tuple[Param, ...]:
        """Return the parameters of FUNC_PROTO ``proto_id``."""
        words, at = self._record(proto_id, Kind.FUNC_PROTO)
        tail = words[at + 3 : at + 3 + 2 * (words[at + 1] & VLEN_MASK)]
        return tuple(
            Param(self._string(name), type_id)
            for name, type_id in zip(tail[::2], tail[1::2], strict=True)
        )

    def members(self, type_id: int) -> tuple[Member, ...]:
        """Return the members of STRUCT or UNION ``type_id``, in order; anonymous ones named ""."""
        words, at = self._record(type_id, *STRUCTS)
        info = words[at + 1]
        tail = words[at + 3 : at + 3 + 3 * (info & VLEN_MASK)]
        kind_flag = info >> 31  # kind_flag: the upper byte of an offset is the bit field's width
        return tuple(
            Member(
                self._string(name),
                target_id,
                offset & 0xFFFFFF if kind_flag else offset,
                offset >> 24 if kind_flag else 0,
            )
            for name, target_id, offset in zip(tail[::3], tail[1::3], tail[2::3], strict=True)
        )

    def flat_members(self, type_id: int) -> Mapping[str, MemberRef]:
        """Return every member name that C accepts for STRUCT or UNION ``type_id``.

        Members of anonymous members are included, at their offset from the start of ``type_id``.
        A layout needs many members of few structs: so results are remembered.

        Raises:
            BTFError: it contains itself, or refers to a type that does not exist.
        """
        found = self._flat_members.get(type_id)
        if found is None:
            found = self._flat_members[type_id] = self._flatten(type_id)
        return found

    def enumerators(self, type_id: int) -> dict[str, int]:
        """Return name -> value of ENUM or ENUM64 ``type_id``.

        Values are signed if kind_flag is set. pahole sets it since version 1.24 (2022): the
        negative enumerators of an older kernel read as unsigned here, as in bpftool.
        """
        words, at = self._record(type_id, Kind.ENUM, Kind.ENUM64)
        info = words[at + 1]
        is_enum64 = info >> 24 & 0x7F == Kind.ENUM64
        bits, stride = (64, 3) if is_enum64 else (32, 2)
        tail = words[at + 3 : at + 3 + stride * (info & VLEN_MASK)]
        values = {}
        for index in range(0, len(tail), stride):
            value = tail[index + 1] | (tail[index + 2] << 32 if is_enum64 else 0)
            if info >> 31 and value >> (bits - 1):
                value -= 1 << bits
            values[self._string(tail[index])] = value
        return values

    def functions(self) -> Iterator[tuple[str, int]]:
        """Yield name and FUNC_PROTO id of every FUNC of this blob, without those of its base."""
        from pypwru.btf import argument_index

        for index in argument_index.indexes_of(self.blob, Kind.FUNC):
            found = self.type(index + self.blob.first_id)
            yield found.name, found.type

    def functions_taking(
        self, struct_name: str, max_args: int = 5
    ) -> list[tuple[str, int, tuple[int, ...]]]:
        """Return the functions of this blob that take a pointer to ``struct struct_name``.

        Modifiers (const, typedefs ...) of the struct and of the pointer are ignored; a pointer to
        a pointer does not match.

        Args:
            struct_name: without ``struct``.
            max_args: search only so many first arguments, at most 32.

        Returns:
            Per function: name, FUNC_PROTO id, positions of the matching arguments, 1 for the first.
            A position is that of the argument, not of its register: a struct passed by value may
            take two registers.
        """
        from pypwru.btf import argument_index

        pairs = self.blob.index.skb_functions if struct_name == INDEXED_STRUCT else ()
        if not pairs:
            pairs = argument_index.functions_taking(self.blob, self.find(struct_name, Kind.STRUCT))
        found = []
        for type_id, mask in zip(pairs[::2], pairs[1::2], strict=True):
            positions = tuple(index + 1 for index in range(max_args) if mask >> index & 1)
            if positions:
                function = self.type(type_id)
                found.append((function.name, function.type, positions))
        return found

    def tracepoints(self) -> list[tuple[str, int]]:
        """Return name and FUNC_PROTO id of this blob's raw tracepoints.

        Found by ``typedef void (*btf_trace_NAME)(void *, ...)`` of include/trace/bpf_probe.h, whose
        first parameter is the context, not an argument of the tracepoint.
        """
        from pypwru.btf import argument_index

        found = []
        words, positions = self.blob.words, self.blob.index.positions
        for index in argument_index.indexes_of(self.blob, Kind.TYPEDEF):
            type_id = index + self.blob.first_id
            name = self.blob.string_at(words[positions[index]])
            if name.startswith(b"btf_trace_"):
                target = self.pointee(type_id)
                if target is not None and self.type(target).kind is Kind.FUNC_PROTO:
                    found.append(
                        (name[len(b"btf_trace_") :].decode(errors="backslashreplace"), target)
                    )
        return found

    def _flatten(self, type_id: int) -> dict[str, MemberRef]:
        found: dict[str, MemberRef] = {}
        pending = [(type_id, 0, 0)]
        steps = MAX_NAMES
        while pending:
            owner, start, depth = pending.pop()
            for member in self.members(owner):
                steps -= 1
                if steps < 0 or depth > MAX_DEPTH:
                    raise BTFError(f"BTF is malformed: the members of type id {type_id} do not end")
                at = start + member.bit_offset
                if member.name:
                    found.setdefault(member.name, MemberRef(member.type, at, member.bit_size))
                elif self.type(inner := self.resolve(member.type)).kind in STRUCTS:
                    pending.append((inner, at, depth + 1))
        return found

    def _record(self, type_id: int, *kinds: Kind) -> tuple[Sequence[int], int]:
        found = self.type(type_id)
        if found.kind not in kinds or not type_id:
            expected = " or ".join(kind.name for kind in kinds)
            raise BTFError(f"BTF type id {type_id} is a {found.kind.name}, not a {expected}")
        return self.blob.find_record(type_id)

    def _string(self, offset: int) -> str:
        return self.blob.string_at(offset).decode(errors="backslashreplace") if offset else ""
