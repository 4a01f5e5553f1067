"""The intermediate representation: typed reads of kernel memory, constants and operations."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pypwru.expression.numbers import U64, Number


class Cell(NamedTuple):
    """A reference to kernel memory: a chain of pointers from the root's address, and a size.

    Args:
        steps: byte offsets. All but the last are offsets of pointers; each offset is relative to
            the target of the pointer before it, the first to the root's address. An empty chain is
            the root's address itself.
        size: in bytes.
        is_string: read it up to its first NUL only.
    """

    steps: tuple[int, ...]
    size: int
    is_string: bool = False

    @property
    def pointer(self) -> Cell | None:
        """The last pointer of the chain; None if the offset is from the root's address."""
        return Cell(self.steps[:-1], POINTER) if len(self.steps) > 1 else None


POINTER = 8


class Read(NamedTuple):
    """An integer in kernel memory.

    Args:
        cell: the bytes that hold it.
        number: its type.
        shift: its lowest bit, for a bit field.
        big_endian: it is in network byte order.
        enum: BTF type id of its enum, or 0.
    """

    cell: Cell
    number: Number
    shift: int = 0
    big_endian: bool = False
    enum: int = 0


class Constant(NamedTuple):
    """An integer constant of type ``number``."""

    value: int
    number: Number


class Unary(NamedTuple):
    """A unary operation; ``sign`` is - or ~, ``number`` the type of the result."""

    sign: str
    operand: Value
    number: Number


class Arithmetic(NamedTuple):
    """A binary arithmetic operation; ``number`` is the type of the result."""

    sign: str
    left: Value
    right: Value
    number: Number


class Compare(NamedTuple):
    """A comparison, for which both operands are converted to ``operands``, S64 or U64."""

    sign: str
    left: Value
    right: Value
    operands: Number


class Text(NamedTuple):
    """A comparison of the first bytes of ``cell`` with ``data``: 1 if they are equal."""

    cell: Cell
    data: bytes


class Not(NamedTuple):
    """1 if the operand is 0, otherwise 0."""

    operand: Value


class Logic(NamedTuple):
    """A chain of terms with short-circuit evaluation; ``sign`` is && or ||."""

    sign: str
    terms: tuple[Value, ...]


Truth: TypeAlias = Compare | Text | Not | Logic
"""Values that are 0 or 1."""
Value: TypeAlias = Read | Constant | Unary | Arithmetic | Truth
TRUTHS = (Compare, Text, Not, Logic)

ROOT = Read(Cell((), POINTER), U64)
