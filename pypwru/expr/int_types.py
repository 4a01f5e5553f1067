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


class IntType(NamedTuple):
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


S64, U64 = IntType(64, True), IntType(64, False)
U32 = IntType(32, False)
BOOL = IntType(1, False)


def constant_type(value: int) -> IntType:
    """Return the type of a constant without a suffix."""
    if value < 0:
        return S64
    return unsigned_type(max(value.bit_length(), 1))


def common_type(left: IntType, right: IntType) -> IntType:
    """Return the common type, S64 or U64, that an operation on both is done in."""
    return U64 if U64 in (left, right) else S64


def wrap(value: int, int_type: IntType) -> int:
    """Return ``value`` converted to the type ``int_type``: its low bits."""
    value &= (1 << int_type.bits) - 1
    return value - (1 << int_type.bits) if value > int_type.high else value


def unsigned_type(bits: int) -> IntType:
    """Return an unsigned type of ``bits`` bits, but never U32: there ``~`` stays in 32 bits.

    For 32 bits it is one of 33.
    """
    return IntType(bits + (bits == 32), False)


def _widened_type(left: IntType, right: IntType, bits: int) -> IntType:
    """Return the result type of + and *: unsigned of ``bits`` bits for unsigned operands.

    Args:
        left: type of the left operand.
        right: type of the right operand.
        bits: enough for the result; from 63 on it is the common type.
    """
    result = common_type(left, right)
    if result == U64 or left.signed or right.signed or bits >= 63:
        return result
    return unsigned_type(bits)


def _quotient_type(left: IntType, right: IntType) -> IntType:
    return common_type(left, right) if left.signed or right.signed or right == U64 else left


def _and_type(left: IntType, right: IntType) -> IntType:
    """Return the result type of ``&``: no wider than the narrowest unsigned operand."""
    unsigned_types = [int_type for int_type in (left, right) if not int_type.signed]
    if not unsigned_types or U64 in unsigned_types:
        return common_type(left, right)
    bits = min(int_type.bits for int_type in unsigned_types)
    return U32 if _is_u32_result(left, right) else unsigned_type(bits)


def _or_type(left: IntType, right: IntType) -> IntType:
    """Return the result type of ``|`` and ``^``."""
    if left.signed or right.signed or U64 in (left, right):
        return common_type(left, right)
    return U32 if _is_u32_result(left, right) else unsigned_type(max(left.bits, right.bits))


def _is_u32_result(left: IntType, right: IntType) -> bool:
    """Return whether the result is a ``u32`` as in C: one operand is, the other is no wider."""
    return U32 in (left, right) and not any(n.signed or n.bits > 32 for n in (left, right))


RESULT_TYPES: dict[str, Callable[[IntType, IntType], IntType]] = {
    "+": lambda left, right: _widened_type(left, right, max(left.bits, right.bits) + 1),
    "-": common_type,
    "*": lambda left, right: _widened_type(left, right, left.bits + right.bits),
    "/": _quotient_type,
    "%": _quotient_type,
    "&": _and_type,
    "|": _or_type,
    "^": _or_type,
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


def operand_type(left: IntType, right: IntType, op: str) -> IntType:
    """Return the type, S64 or U64, that the operands of ``op`` are converted to.

    Args:
        left: type of the left operand.
        right: type of the right operand.
        op: the operator; only the left operand of a shift is converted.
    """
    return common_type(left, left if op in SHIFTS else right)
