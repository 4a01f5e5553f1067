"""Integer types of expressions, and arithmetic on constants. Everything is computed in 64 bits.

The conversions are C's usual arithmetic conversions (C11, 6.3.1.8) with only two types to compute
in, ``long`` and ``unsigned long``: an operation is unsigned if an operand is an unsigned 64-bit
integer; all others fit into a signed one. So no operand changes its value: an ``int`` of -1 is less
than any ``u32``, unlike in C. ``~`` of a ``u32`` is a ``u32``, as in C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Number(NamedTuple):
    """An integer type: the range of values of an operand, in two's complement of ``bits`` bits."""

    bits: int
    signed: bool

    @property
    def low(self) -> int:
        """The smallest value."""
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest value."""
        return (1 << self.bits - self.signed) - 1


S64, U64 = Number(64, True), Number(64, False)
U32 = Number(32, False)
TRUTH = Number(1, False)


def of(value: int) -> Number:
    """Return the type of a constant without a suffix."""
    if value < 0:
        return S64
    return unsigned(max(value.bit_length(), 1))


def common(left: Number, right: Number) -> Number:
    """Return the common type, S64 or U64, that an operation on both is done in."""
    return U64 if U64 in (left, right) else S64


def wrapped(value: int, number: Number) -> int:
    """Return ``value`` converted to the type ``number``: its low bits."""
    value &= (1 << number.bits) - 1
    return value - (1 << number.bits) if value > number.high else value


def unsigned(bits: int) -> Number:
    """Return an unsigned type of ``bits`` bits, but never U32: there ``~`` stays in 32 bits.

    For 32 bits it is one of 33.
    """
    return Number(bits + (bits == 32), False)


def _wider(left: Number, right: Number, bits: int) -> Number:
    """Return the result type of + and *: unsigned of ``bits`` bits for unsigned operands.

    Args:
        left, right: the operands' types.
        bits: enough for the result; from 63 on it is the common type.
    """
    result = common(left, right)
    if result == U64 or left.signed or right.signed or bits >= 63:
        return result
    return unsigned(bits)


def _quotient(left: Number, right: Number) -> Number:
    return common(left, right) if left.signed or right.signed or right == U64 else left


def _both(left: Number, right: Number) -> Number:
    """Return the result type of ``&``: no wider than the narrowest unsigned operand."""
    narrow = [number for number in (left, right) if not number.signed]
    if not narrow or U64 in narrow:
        return common(left, right)
    bits = min(number.bits for number in narrow)
    return U32 if _stays_u32(left, right) else unsigned(bits)


def _either(left: Number, right: Number) -> Number:
    """Return the result type of ``|`` and ``^``."""
    if left.signed or right.signed or U64 in (left, right):
        return common(left, right)
    return U32 if _stays_u32(left, right) else unsigned(max(left.bits, right.bits))


def _stays_u32(left: Number, right: Number) -> bool:
    """Return whether the result is a ``u32`` as in C: one operand is, the other is no wider."""
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
"""Operator -> function from the operands' types to the type of the result."""


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
    """Return the type, S64 or U64, that the operands of ``sign`` are converted to.

    Args:
        left, right: the operands' types.
        sign: the operator; only the left operand of a shift is converted.
    """
    return common(left, left if sign in SHIFTS else right)
