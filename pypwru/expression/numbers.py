"""Numbers as expressions have them: every operand keeps its value and is computed with in 64 bits.

C's usual arithmetic conversions, with ``long`` and ``unsigned long`` as the only two types: an
operand that is an unsigned number of 64 bits makes the operation one, and anything else fits into a
signed one. So -1 of an ``int`` is less than any ``u32``, which it is not in C; ``~`` of an ``u32``
is an ``u32``, as in C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Number(NamedTuple):
    """The values that an operand can have: those of a two's complement number of ``bits``."""

    bits: int
    signed: bool

    @property
    def low(self) -> int:
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << self.bits - self.signed) - 1


S64, U64 = Number(64, True), Number(64, False)
U32 = Number(32, False)
TRUTH = Number(1, False)


def of(value: int) -> Number:
    """The number type of a constant without a suffix."""
    if value < 0:
        return S64
    return unsigned(max(value.bit_length(), 1))


def common(left: Number, right: Number) -> Number:
    """S64 or U64: what an operation on the two is done in."""
    return U64 if U64 in (left, right) else S64


def wrapped(value: int, number: Number) -> int:
    """``value`` as ``number`` has it: the low bits."""
    value &= (1 << number.bits) - 1
    return value - (1 << number.bits) if value > number.high else value


def unsigned(bits: int) -> Number:
    """An unsigned number of ``bits`` that is no U32, whose ``~`` is another."""
    return Number(bits + (bits == 32), False)


def _wider(left: Number, right: Number, bits: int) -> Number:
    """Of unsigned operands: ``bits`` hold the result, as long as that is less than 64."""
    result = common(left, right)
    if result == U64 or left.signed or right.signed or bits >= 63:
        return result
    return unsigned(bits)


def _quotient(left: Number, right: Number) -> Number:
    return common(left, right) if left.signed or right.signed or right == U64 else left


def _both(left: Number, right: Number) -> Number:
    """Of ``&``: no bits that an unsigned operand doesn't have."""
    narrow = [number for number in (left, right) if not number.signed]
    if not narrow or U64 in narrow:
        return common(left, right)
    bits = min(number.bits for number in narrow)
    return U32 if _stays_u32(left, right) else unsigned(bits)


def _either(left: Number, right: Number) -> Number:
    """Of ``|`` and ``^``."""
    if left.signed or right.signed or U64 in (left, right):
        return common(left, right)
    return U32 if _stays_u32(left, right) else unsigned(max(left.bits, right.bits))


def _stays_u32(left: Number, right: Number) -> bool:
    """As in C: of an ``u32`` and what is no wider."""
    return U32 in (left, right) and not any(n.signed or n.bits > 32 for n in (left, right))


RESULTS: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda left, right: _wider(left, right, max(left.bits, right.bits) + 1),
    "-": common,
    "*": lambda left, right: _wider(left, right, left.bits + right.bits),
    "/": _quotient,
    "%": _quotient,
    "&": _both,
    "|": _either,
    "^": _either,
    "<<": lambda left, _: U64 if left == U64 else S64,
    ">>": lambda left, _: left,
}
"""What an operation on two numbers gives."""


def _divide(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return -quotient if (left < 0) != (right < 0) else quotient


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divide,
    "%": lambda left, right: left - right * _divide(left, right),
    "&": lambda left, right: left & right,
    "|": lambda left, right: left | right,
    "^": lambda left, right: left ^ right,
    "<<": lambda left, right: left << right,
    ">>": lambda left, right: left >> right,
}
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
INVERSE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
SWAPPED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
SHIFTS = ("<<", ">>")
DIVISIONS = ("/", "%")


def operated(left: Number, right: Number, sign: str) -> Number:
    """S64 or U64: what both operands of ``sign`` are converted to; of a shift, the left one."""
    return common(left, left if sign in SHIFTS else right)
