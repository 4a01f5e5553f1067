"""The intermediate representation: typed reads of kernel memory, constants and operations."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pypwru.expr.int_types import U64, IntType


class MemoryRef(NamedTuple):
    """A reference to kernel memory: a chain of pointers from the root's address, and a size.

    Args:
        offsets: byte offsets. All but the last are offsets of pointers; each offset is relative to
            the target of the pointer before it, the first to the root's address. An empty chain is
            the root's address itself.
        size: in bytes.
        is_string: read it up to its first NUL only.
    """

    offsets: tuple[int, ...]
    size: int
    is_string: bool = False

    @property
    def pointer(self) -> MemoryRef | None:
        """The last pointer of the chain; None if the offset is from the root's address."""
        return MemoryRef(self.offsets[:-1], POINTER_SIZE) if len(self.offsets) > 1 else None


POINTER_SIZE = 8


class Read(NamedTuple):
    """An integer in kernel memory.

    Args:
        memory: the bytes that hold it.
        int_type: its type.
        shift: its lowest bit, for a bit field.
        is_big_endian: it is in network byte order.
        enum_id: BTF type id of its enum, or 0.
    """

    memory: MemoryRef
    int_type: IntType
    shift: int = 0
    is_big_endian: bool = False
    enum_id: int = 0


class Constant(NamedTuple):
    """An integer constant of type ``int_type``."""

    value: int
    int_type: IntType


class Unary(NamedTuple):
    """A unary operation; ``op`` is - or ~, ``int_type`` the type of the result."""

    op: str
    operand: Value
    int_type: IntType


class Arithmetic(NamedTuple):
    """A binary arithmetic operation; ``int_type`` is the type of the result."""

    op: str
    left: Value
    right: Value
    int_type: IntType


class Compare(NamedTuple):
    """A comparison, for which both operands are converted to ``operand_type``, S64 or U64."""

    op: str
    left: Value
    right: Value
    operand_type: IntType


class StringCompare(NamedTuple):
    """A comparison of the first bytes of ``memory`` with ``data``: 1 if they are equal."""

    memory: MemoryRef
    data: bytes


class Not(NamedTuple):
    """1 if the operand is 0, otherwise 0."""

    operand: Value


class Logic(NamedTuple):
    """A chain of terms with short-circuit evaluation; ``op`` is && or ||."""

    op: str
    terms: tuple[Value, ...]


Condition: TypeAlias = Compare | StringCompare | Not | Logic
"""Values that are 0 or 1."""
Value: TypeAlias = Read | Constant | Unary | Arithmetic | Condition
CONDITION_TYPES = (Compare, StringCompare, Not, Logic)

ROOT = Read(MemoryRef((), POINTER_SIZE), U64)
