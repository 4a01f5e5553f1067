"""Terms of value numbering: how each value is computed, its value number and its upper bound.

Equal terms have one value number. A term is simplified when it is created, by identities of u32
arithmetic in libpcap's interpreter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm import ebpf
from pypwru.filter import ranges

if TYPE_CHECKING:
    from collections.abc import Callable

Term = tuple[int, int, int]
"""How a value is computed: (CONSTANT, number, 0), (LENGTH, 0, 0), (LOAD + size, base, offset),
(JOIN, block, index of the location), or an ALU operation, EQUAL or GREATER with two value numbers.
JOIN is a phi node: a value that depends on the path to the block."""

CONSTANT, LENGTH, JOIN, EQUAL, GREATER, LOAD = range(0x100, 0x106)
PACKET = -1
"""The base of a load at a constant offset."""

_FOLD: dict[int, Callable[[int, int], int]] = {
    ebpf.ADD: lambda a, b: a + b,
    ebpf.SUB: lambda a, b: a - b,
    ebpf.MUL: lambda a, b: a * b,
    ebpf.DIV: lambda a, b: a // b,
    ebpf.MOD: lambda a, b: a % b,
    ebpf.OR: lambda a, b: a | b,
    ebpf.AND: lambda a, b: a & b,
    ebpf.XOR: lambda a, b: a ^ b,
    ebpf.LSH: lambda a, b: a << b if b < 32 else 0,
    ebpf.RSH: lambda a, b: a >> b if b < 32 else 0,
}
"""The operations of libpcap's interpreter on u32 numbers. A division by zero is not folded."""

DIVISIONS = (ebpf.DIV, ebpf.MOD)
_COMMUTATIVE = frozenset((ebpf.ADD, ebpf.MUL, ebpf.OR, ebpf.AND, ebpf.XOR))
_ABSORBED_BY_ZERO = (ebpf.AND, ebpf.MUL)
_SHIFTS = (ebpf.LSH, ebpf.RSH)
_MAX_SHIFT = 31
_ASSOCIATIVE = (ebpf.ADD, ebpf.AND)
_UPPER_BOUNDS: dict[int, Callable[[int, int], int]] = {
    ebpf.ADD: lambda a, b: a + b,
    ebpf.MUL: lambda a, b: a * b,
    ebpf.DIV: lambda a, _: a,
    ebpf.MOD: min,
    ebpf.AND: min,
    ebpf.OR: lambda a, b: _bit_mask(a | b),
    ebpf.XOR: lambda a, b: _bit_mask(a | b),
    ebpf.LSH: lambda a, b: a << min(b, 32),
    ebpf.RSH: lambda a, b: a >> min(b, 32),
}
"""Operation -> upper bound of the result, from the upper bounds of the operands."""

_RIGHT_IDENTITY = {  # operation -> its right identity element
    ebpf.ADD: 0, ebpf.MUL: 1, ebpf.DIV: 1, ebpf.OR: 0, ebpf.XOR: 0, ebpf.LSH: 0, ebpf.RSH: 0,
}  # fmt: skip


class Terms:
    """The values of one program, by value number."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self._value_numbers: dict[Term, int] = {}
        self._upper_bounds: list[int] = []

    def upper_bound(self, value: int) -> int:
        """Return the upper bound of ``value``."""
        return self._upper_bounds[value]

    def constant(self, number: int) -> int:
        """Return the value number of a constant."""
        return self.value_number((CONSTANT, number, 0))

    def constant_of(self, value: int) -> int | None:
        """Return the number that ``value`` is for every packet, or None."""
        operation, number, _ = self.terms[value]
        return number if operation == CONSTANT else None

    def load_of(self, value: int) -> tuple[int, int] | None:
        """Return (offset, size) of a load at a constant offset, masked or not, or None."""
        operation, one, other = self.terms[value]
        while operation == ebpf.AND and self.constant_of(other) is not None:
            operation, one, other = self.terms[one]
        return (other, operation - LOAD) if operation > LOAD and one == PACKET else None

    def split_addend(self, value: int) -> tuple[int, int]:
        """Split ``value`` into a value and a constant addend, which may be 0.

        Only if the sum can't wrap: libpcap computes X modulo 2**32, but not X + k of a load.
        """
        operation, base, added = self.terms[value]
        number = self.constant_of(added) if operation == ebpf.ADD else None
        if number is None or self._upper_bounds[base] + number > ranges.MAX:
            return value, 0
        return base, number

    def compute(self, operation: int, one: int, other: int) -> int:
        """Return the value number of an ALU operation, simplified.

        Args:
            operation: the BPF_OP bits.
            one: value number of the left operand.
            other: value number of the right operand.
        """
        if operation in _COMMUTATIVE and self._operand_rank(one) < self._operand_rank(other):
            one, other = other, one
        left, right = self.constant_of(one), self.constant_of(other)
        if right is None:
            is_zero = operation in (ebpf.SUB, ebpf.XOR) and one == other
            return self.constant(0) if is_zero else self.value_number((operation, one, other))
        if left is not None and (right or operation not in DIVISIONS):
            return self.constant(_FOLD[operation](left, right) & ranges.MAX)
        if operation == ebpf.SUB:
            return self.compute(ebpf.ADD, one, self.constant(-right & ranges.MAX))
        if right == _RIGHT_IDENTITY.get(operation):
            return one
        if (operation in _SHIFTS and right > _MAX_SHIFT) or (
            operation in _ABSORBED_BY_ZERO and not right
        ):
            return self.constant(0)
        if operation == ebpf.AND and not _bit_mask(self._upper_bounds[one]) & ~right:
            return one
        inner, first, last = self.terms[one]
        if inner == operation and operation in _ASSOCIATIVE and self.constant_of(last) is not None:
            return self.compute(operation, first, self.compute(operation, last, other))
        return self.value_number((operation, one, other))

    def _operand_rank(self, value: int) -> tuple[bool, int]:
        """Return the sort key of a commutative operation's operands: the lower one is the second.

        So constants are on the right.
        """
        return self.constant_of(value) is None, value

    def value_number(self, term: Term) -> int:
        """Return the value number of ``term``, a new one for a new term."""
        number = self._value_numbers.get(term)
        if number is None:
            number = self._value_numbers[term] = len(self.terms)
            self.terms.append(term)
            self._upper_bounds.append(self._compute_bound(term))
        return number

    def _compute_bound(self, term: Term) -> int:
        """Return the upper bound of a new term."""
        operation, one, other = term
        if operation == CONSTANT:
            return one
        if operation in (EQUAL, GREATER):
            return 1
        if operation > LOAD:
            return (1 << 8 * (operation - LOAD)) - 1
        if operation not in _UPPER_BOUNDS:
            return ranges.MAX
        if operation == ebpf.RSH and self.constant_of(other) is None:
            return self._upper_bounds[one]
        bound = _UPPER_BOUNDS[operation](self._upper_bounds[one], self._upper_bounds[other])
        return min(bound, ranges.MAX)  # a larger result may wrap to any number


def _bit_mask(upper_bound: int) -> int:
    """Return the mask of the bits that a number of at most ``upper_bound`` can have set."""
    return (1 << upper_bound.bit_length()) - 1
