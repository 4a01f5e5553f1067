"""What an expression means: reads of kernel memory, constants, and what is done with them."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from pypwru.expression.numbers import U64, Number


class Cell(NamedTuple):
    """Bytes of kernel memory, counted from the root's address.

    Args:
        steps: offsets. At each but the last is a pointer, from whose target the next one counts; no
            steps are the root's address itself.
        size: bytes.
        is_string: they end with a NUL, and what is behind it is not read.
    """

    steps: tuple[int, ...]
    size: int
    is_string: bool = False

    @property
    def pointer(self) -> Cell | None:
        """The cell whose content leads to this one; None where the root's address does."""
        return Cell(self.steps[:-1], POINTER) if len(self.steps) > 1 else None


POINTER = 8


class Read(NamedTuple):
    """The number in a cell: ``number.bits`` bits from bit ``shift`` on, of network order or not.

    ``enum`` is the type id of its enum, or 0.
    """

    cell: Cell
    number: Number
    shift: int = 0
    big_endian: bool = False
    enum: int = 0


class Constant(NamedTuple):
    value: int
    number: Number


class Unary(NamedTuple):
    """``sign`` is - or ~"""

    sign: str
    operand: Value
    number: Number


class Arithmetic(NamedTuple):
    sign: str
    left: Value
    right: Value
    number: Number


class Compare(NamedTuple):
    """The operands are compared as numbers of type ``operands``, S64 or U64."""

    sign: str
    left: Value
    right: Value
    operands: Number


class Text(NamedTuple):
    """Whether the first bytes of ``cell`` are ``data``."""

    cell: Cell
    data: bytes


class Not(NamedTuple):
    operand: Value


class Logic(NamedTuple):
    """``sign`` is && or ||; a term that does not decide any more is not evaluated."""

    sign: str
    terms: tuple[Value, ...]


Truth: TypeAlias = Compare | Text | Not | Logic
"""What is 0 or 1."""
Value: TypeAlias = Read | Constant | Unary | Arithmetic | Truth
TRUTHS = (Compare, Text, Not, Logic)

ROOT = Read(Cell((), POINTER), U64)
