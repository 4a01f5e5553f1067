"""Member access resolved by BTF: the pointer chain to a member, its bits and its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.btf import declare, members
from pypwru.btf.types import MODIFIERS, STRUCTS, Kind, MemberRef, Type
from pypwru.errors import BTFError
from pypwru.expr.int_types import BOOL, U64, IntType
from pypwru.expr.ir import ROOT, MemoryRef, Read
from pypwru.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pypwru.btf.query import BTF
    from pypwru.expr.position import Position

_SIGNED, _BOOL = 1, 4  # encoding of a BTF_KIND_INT
MAX_READ = 8  # bytes of an integer
MAX_OFFSET = (
    1 << 30
)  # bytes from a pointer: the s32 immediate of an addition holds it with a margin


class LValue(NamedTuple):
    """An object in kernel memory.

    Args:
        pointers: byte offsets of the pointers to follow, each relative to the target of the one
            before it, the first to the root's address.
        member: the object: its type, and its bit offset from the last pointer's target.
    """

    pointers: tuple[int, ...]
    member: MemberRef


class BitRange(NamedTuple):
    """The ``width`` bits of ``memory`` from bit ``shift`` on."""

    memory: MemoryRef
    shift: int
    width: int


class MemberAccess:
    """Resolves members of the struct that a root points to.

    Args:
        btf: the kernel's types.
        root: the root's name in expressions, such as ``skb``.
        struct: the name of the struct that it points to, such as ``sk_buff``.

    Raises:
        BTFError: there is no such struct.
    """

    def __init__(self, btf: BTF, root: str, struct: str) -> None:
        ids = btf.find(struct, Kind.STRUCT)
        if not ids:
            raise BTFError(f"no struct {struct} in this kernel's BTF")
        self.btf = btf
        self.root = root
        self._root_target = LValue((), MemberRef(ids[0], 0, 0))

    def member(self, parent: LValue | None, name: str, position: Position) -> LValue:
        """Return the object ``parent->name`` or ``parent.name``.

        Args:
            parent: a struct, a union or a pointer to one; None for the root.
            name: the member's name.
            position: its position, for errors.

        Raises:
            FilterError: ``parent`` has no such member.
        """
        owner = self._root_target if parent is None else parent
        if parent is not None and self._resolved_type(parent).kind is Kind.PTR:
            owner = self._dereference(parent, position)
        owner_type = self._resolved_type(owner)
        if owner_type.kind not in STRUCTS:
            raise position.error(f"{self.describe_type(owner)} has no members")
        members_by_name = self.members_of(owner_type.id)
        if name not in members_by_name:
            raise position.error(
                f"{self.describe_type(owner)} has no member {name}"
                + did_you_mean(name, members_by_name)
            )
        inner = members_by_name[name]
        bit_offset = owner.member.bit_offset + inner.bit_offset
        return owner._replace(member=inner._replace(bit_offset=bit_offset))

    def element(self, parent: LValue | None, index: int, position: Position) -> LValue:
        """Return the object ``parent[place]``.

        Args:
            parent: an array or a pointer; None for the root.
            index: the index, 0 or more.
            position: its position, for errors.

        Raises:
            FilterError: ``parent`` has no elements, or not so many.
        """
        if parent is None:
            parent = self._root_target
        elif self._resolved_type(parent).kind is Kind.PTR:
            parent = self._dereference(parent, position)
        elif self._resolved_type(parent).kind is Kind.ARRAY:
            array = self.btf.array(self._resolved_type(parent).id)
            if array.nelems and index >= array.nelems:
                raise position.error(
                    f"the array has {array.nelems} elements: 0 to {array.nelems - 1}"
                )
            parent = parent._replace(member=parent.member._replace(type=array.type))
        else:
            raise position.error(f"{self.describe_type(parent)} has no elements")
        bit_offset = parent.member.bit_offset + 8 * index * self._size_of(parent, position)
        if bit_offset >= 8 * MAX_OFFSET:
            raise position.error(f"element {index} is too far away: {MAX_OFFSET >> 20} MiB at most")
        return parent._replace(member=parent.member._replace(bit_offset=bit_offset))

    def read(self, lvalue: LValue | None, position: Position) -> Read:
        """Return a read of the integer or pointer ``lvalue``; None for the root's address.

        Raises:
            FilterError: it is of another type, or its bits span more than 8 bytes.
        """
        if lvalue is None:
            return ROOT
        resolved = self._resolved_type(lvalue)
        if resolved.kind not in _READABLE_KINDS:
            raise position.error(
                f"{self.describe_type(lvalue)} is not a number{self._hint(resolved)}"
            )
        bits = self.bit_range(lvalue, position)
        if bits.memory.size > MAX_READ:
            raise position.error(f"{self.describe_type(lvalue)} lies in more than 8 bytes")
        return Read(
            bits.memory,
            self._int_type(resolved, bits.width),
            bits.shift,
            bits.width == 8 * bits.memory.size and self._is_big_endian(lvalue.member.type),
            resolved.id if resolved.kind in (Kind.ENUM, Kind.ENUM64) else 0,
        )

    def bit_range(self, lvalue: LValue, position: Position) -> BitRange:
        """Return the bits that ``lvalue`` occupies.

        Raises:
            FilterError: its type has no size.
        """
        self._size_of(lvalue, position)
        field = members.to_field(self.btf, lvalue.member)
        width = field.bit_size or 8 * field.size
        if not width:
            raise position.error(f"{self.describe_type(lvalue)} has no size")
        size = (field.bit_offset + width + 7) // 8
        return BitRange(MemoryRef((*lvalue.pointers, field.offset), size), field.bit_offset, width)

    def string_memory(
        self, lvalue: LValue | None, length: int, position: Position
    ) -> MemoryRef | None:
        """Return the memory to read to compare ``lvalue`` with a string.

        Args:
            lvalue: a char array, of which no more than its size is read, or a ``char *``.
            length: of the string in bytes, without its NUL.
            position: the position, for errors.

        Returns:
            None if ``lvalue`` is neither.
        """
        resolved = self._resolved_type(lvalue) if lvalue else None
        if lvalue is None or resolved is None:
            return None
        element = self.btf.type(self.btf.resolve(resolved.type))
        if element.kind is not Kind.INT or element.size != 1:
            return None
        if resolved.kind is Kind.ARRAY:
            size = min(self.btf.array(resolved.id).nelems, length + 1)
            return self.bit_range(lvalue, position).memory._replace(size=size)
        if resolved.kind is not Kind.PTR or element.name != "char":
            return None
        offsets = (*self.bit_range(lvalue, position).memory.offsets, 0)
        return MemoryRef(offsets, length + 2, is_string=True)

    def members_of(self, struct: int | None = None) -> Mapping[str, MemberRef]:
        """Return the members of ``struct``, a BTF type id, by name; None for the root's struct."""
        if struct is None:
            struct = self._root_target.member.type
        return self.btf.flat_members(struct)

    def _resolved_type(self, lvalue: LValue) -> Type:
        return self.btf.type(self.btf.resolve(lvalue.member.type))

    def describe_type(self, lvalue: LValue) -> str:
        """Return the type of ``lvalue`` in C."""
        return declare.declare(self.btf, lvalue.member.type, "").replace(" [", "[")

    def _hint(self, found: Type) -> str:
        if found.kind in STRUCTS:
            return ": name one of its members"
        return ": name an element, such as [0]" if found.kind is Kind.ARRAY else ""

    def _dereference(self, lvalue: LValue, position: Position) -> LValue:
        """Return the target of the pointer ``lvalue``.

        A struct that BTF only declares here (BTF_KIND_FWD) is looked up by name.
        """
        field = members.to_field(self.btf, lvalue.member)
        target = self._resolved_type(lvalue).type
        target_type = self.btf.type(self.btf.resolve(target))
        if target_type.kind is Kind.FWD:
            complete = self.btf.find(
                target_type.name, Kind.UNION if target_type.kind_flag else Kind.STRUCT
            )
            if not complete:
                raise position.error(
                    f"{self.describe_type(lvalue)} points to a type that is not in "
                    "this kernel's BTF"
                )
            target = complete[0]
        return LValue((*lvalue.pointers, field.offset), MemberRef(target, 0, 0))

    def _size_of(self, lvalue: LValue, position: Position) -> int:
        try:
            return self.btf.size(lvalue.member.type)
        except BTFError:
            raise position.error(f"{self.describe_type(lvalue)} has no size") from None

    def _is_big_endian(self, type_id: int) -> bool:
        """Return whether the type is ``__be16``, ``__be32`` or ``__be64``, or a typedef of one."""
        found = self.btf.type(type_id)
        while found.kind in MODIFIERS:
            if found.kind is Kind.TYPEDEF and found.name.startswith("__be"):
                return True
            found = self.btf.type(found.type)
        return False

    def _int_type(self, found: Type, bits: int) -> IntType:
        if found.kind is Kind.PTR:
            return U64
        if found.kind is not Kind.INT:
            return IntType(bits, found.kind_flag)
        encoding = self.btf.integer(found.id).encoding
        return BOOL if encoding & _BOOL else IntType(bits, bool(encoding & _SIGNED))


_READABLE_KINDS = {Kind.INT, Kind.PTR, Kind.ENUM, Kind.ENUM64}
