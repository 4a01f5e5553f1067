"""Values as terms: how each is computed, its number, and what it is at most.

Equal terms are one value. A term is simplified when it is made, by what holds of all u32 numbers as
libpcap's interpreter computes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.filter import ebpf, ranges

if TYPE_CHECKING:
    from collections.abc import Callable

Term = tuple[int, int, int]
"""How a value is computed: (CONSTANT, number, 0), (LENGTH, 0, 0), (LOAD + size, base, offset),
(JOIN, block, number of the location), or an operation of eBPF, EQUAL or GREATER with two values."""

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
"""libpcap's interpreter, on u32 numbers; division by zero is left to be done."""

DIVISIONS = (ebpf.DIV, ebpf.MOD)
_COMMUTES = frozenset((ebpf.ADD, ebpf.MUL, ebpf.OR, ebpf.AND, ebpf.XOR))
_BY_ZERO = (ebpf.AND, ebpf.MUL)
_SHIFTS = (ebpf.LSH, ebpf.RSH)
_MOST_SHIFTED = 31
_NESTS = (ebpf.ADD, ebpf.AND)
_BOUNDS: dict[int, Callable[[int, int], int]] = {
    ebpf.ADD: lambda a, b: a + b,
    ebpf.MUL: lambda a, b: a * b,
    ebpf.DIV: lambda a, _: a,
    ebpf.MOD: min,
    ebpf.AND: min,
    ebpf.OR: lambda a, b: _bits(a | b),
    ebpf.XOR: lambda a, b: _bits(a | b),
    ebpf.LSH: lambda a, b: a << min(b, 32),
    ebpf.RSH: lambda a, b: a >> min(b, 32),
}
"""What the result is at most, of what the operands are at most."""

_WITHOUT_EFFECT = {  # operation -> constant on the right that changes nothing
    ebpf.ADD: 0, ebpf.MUL: 1, ebpf.DIV: 1, ebpf.OR: 0, ebpf.XOR: 0, ebpf.LSH: 0, ebpf.RSH: 0,
}  # fmt: skip


class Terms:
    """All values of one program, by number."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self._numbers: dict[Term, int] = {}
        self._most: list[int] = []

    def most(self, value: int) -> int:
        """What ``value`` is at most."""
        return self._most[value]

    def constant(self, number: int) -> int:
        return self.number((CONSTANT, number, 0))

    def constant_of(self, value: int) -> int | None:
        """The number that ``value`` is for every packet."""
        operation, number, _ = self.terms[value]
        return number if operation == CONSTANT else None

    def load_of(self, value: int) -> tuple[int, int] | None:
        """Offset and size, if ``value`` is packet bytes at a constant offset, masked or not."""
        operation, one, other = self.terms[value]
        while operation == ebpf.AND and self.constant_of(other) is not None:
            operation, one, other = self.terms[one]
        return (other, operation - LOAD) if operation > LOAD and one == PACKET else None

    def split(self, value: int) -> tuple[int, int]:
        """``value`` as another one and a constant that was added to it, or 0.

        Only if the sum can't wrap, as X can in libpcap, and X + k of a load can't.
        """
        operation, base, added = self.terms[value]
        number = self.constant_of(added) if operation == ebpf.ADD else None
        if number is None or self._most[base] + number > ranges.MAX:
            return value, 0
        return base, number

    def compute(self, operation: int, one: int, other: int) -> int:
        """The value of an ALU operation."""
        if operation in _COMMUTES and self._rank(one) < self._rank(other):
            one, other = other, one
        left, right = self.constant_of(one), self.constant_of(other)
        if right is None:
            same = operation in (ebpf.SUB, ebpf.XOR) and one == other
            return self.constant(0) if same else self.number((operation, one, other))
        if left is not None and (right or operation not in DIVISIONS):
            return self.constant(_FOLD[operation](left, right) & ranges.MAX)
        if operation == ebpf.SUB:
            return self.compute(ebpf.ADD, one, self.constant(-right & ranges.MAX))
        if right == _WITHOUT_EFFECT.get(operation):
            return one
        if (operation in _SHIFTS and right > _MOST_SHIFTED) or (
            operation in _BY_ZERO and not right
        ):
            return self.constant(0)
        if operation == ebpf.AND and not _bits(self._most[one]) & ~right:
            return one
        inner, first, last = self.terms[one]
        if inner == operation and operation in _NESTS and self.constant_of(last) is not None:
            return self.compute(operation, first, self.compute(operation, last, other))
        return self.number((operation, one, other))

    def _rank(self, value: int) -> tuple[bool, int]:
        """Of two operands that may be exchanged, the one of the lower rank is the second."""
        return self.constant_of(value) is None, value

    def number(self, term: Term) -> int:
        """The value that is computed as ``term`` says."""
        number = self._numbers.get(term)
        if number is None:
            number = self._numbers[term] = len(self.terms)
            self.terms.append(term)
            self._most.append(self._bound(term))
        return number

    def _bound(self, term: Term) -> int:
        """What the value is at most."""
        operation, one, other = term
        if operation == CONSTANT:
            return one
        if operation in (EQUAL, GREATER):
            return 1
        if operation > LOAD:
            return (1 << 8 * (operation - LOAD)) - 1
        if operation not in _BOUNDS:
            return ranges.MAX
        if operation == ebpf.RSH and self.constant_of(other) is None:
            return self._most[one]
        most = _BOUNDS[operation](self._most[one], self._most[other])
        return min(most, ranges.MAX)  # beyond it may wrap, and be anything


def _bits(most: int) -> int:
    """The bits that a number of at most ``most`` can have."""
    return (1 << most.bit_length()) - 1
