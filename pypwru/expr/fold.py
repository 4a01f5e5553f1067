"""Constructors of the intermediate representation's nodes, which fold constants.

Establishes: the constant of a comparison is on its right; no operation has only constant operands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.expr import int_types
from pypwru.expr.int_types import (
    BOOL,
    COMPARISONS,
    DIVISIONS,
    INVERSE,
    OPERATIONS,
    RESULT_TYPES,
    SHIFTS,
    SWAPPED,
    U32,
    U64,
    IntType,
    common_type,
    operand_type,
    wrap,
)
from pypwru.expr.ir import Arithmetic, Compare, Constant, Logic, Not, StringCompare, Unary, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pypwru.expr.position import Position

TRUE, FALSE = Constant(1, BOOL), Constant(0, BOOL)


def type_of(value: Value) -> IntType:
    """Return the type of ``value``."""
    return BOOL if isinstance(value, Compare | StringCompare | Not | Logic) else value.int_type


def make_constant(value: int, int_type: IntType) -> Constant:
    """Return ``value``, the result of an operation of type ``int_type``, as a constant."""
    value = wrap(value, int_type)
    return Constant(value, int_type if int_type in (U32, U64) else int_types.constant_type(value))


def negate(operand: Value) -> Value:
    """Return ``-operand``."""
    int_type = common_type(type_of(operand), BOOL)
    if isinstance(operand, Constant):
        return make_constant(-operand.value, int_type)
    return Unary("-", operand, int_type)


def complement(operand: Value) -> Value:
    """Return ``~operand``."""
    int_type = type_of(operand)
    int_type = int_type if int_type == U32 else common_type(int_type, BOOL)
    if isinstance(operand, Constant):
        return make_constant(~operand.value, int_type)
    return Unary("~", operand, int_type)


def make_arithmetic(op: str, left: Value, right: Value, position: Position) -> Value:
    """Return ``left op right``.

    Args:
        op: the operator.
        left: the left operand.
        right: the right operand.
        position: the operator's position, for errors.

    Raises:
        FilterError: a division by the constant 0, or a shift by a constant that is not 0 to 63.
    """
    left_type, right_type = type_of(left), type_of(right)
    result_type = RESULT_TYPES[op](left_type, right_type)
    if isinstance(right, Constant):
        if op in SHIFTS and not 0 <= right.value < 64:
            raise position.error(f"a shift by {right.value}: 0 to 63 are possible")
        if op in DIVISIONS and right.value == 0:
            raise position.error("a division by 0")
        if op == "<<" and result_type != U64 and not left_type.signed:
            bits = left_type.bits + right.value
            result_type = int_types.unsigned_type(bits) if bits < 63 else result_type
        if isinstance(left, Constant):
            work_type = operand_type(left_type, right_type, op)
            left_value = wrap(left.value, work_type)
            right_value = right.value if op in SHIFTS else wrap(right.value, work_type)
            return make_constant(OPERATIONS[op](left_value, right_value), result_type)
    return Arithmetic(op, left, right, result_type)


def make_comparison(op: str, left: Value, right: Value, position: Position) -> Value:
    """Return ``left op right``, a comparison.

    Args:
        op: the operator.
        left: the left operand.
        right: the right operand.
        position: the operator's position, for errors.

    Raises:
        FilterError: == or != with a constant that is not in the range of the other operand.
    """
    if isinstance(left, Constant):
        op, left, right = SWAPPED[op], right, left
    work_type = common_type(type_of(left), type_of(right))
    if isinstance(left, Constant) and isinstance(right, Constant):
        values = (wrap(operand.value, work_type) for operand in (left, right))
        return TRUE if COMPARISONS[op](*values) else FALSE
    if isinstance(right, Constant) and op in ("==", "!="):
        left_type, value = type_of(left), right.value
        if left_type.bits < 64 and not left_type.low <= value <= left_type.high:
            raise position.error(
                f"the operand compared with {value} is {left_type.low} to {left_type.high} "
                f"and never {value}"
            )
    return Compare(op, left, right, work_type)


def invert(operand: Value) -> Value:
    """Return ``!operand``."""
    if isinstance(operand, Constant):
        return FALSE if operand.value else TRUE
    if isinstance(operand, Compare):
        return operand._replace(op=INVERSE[operand.op])
    return Not(operand)


def make_logic(op: str, terms: Iterable[Value]) -> Value:
    """Return ``term && term ...`` or ``term || term ...``, simplified.

    Constant terms that don't decide the result are dropped, and so is everything after one that
    does. Terms before that one stay: if their memory can't be read, the whole expression does not
    match.

    Args:
        op: && or ||.
        terms: in the order of evaluation.
    """
    deciding_value = op == "||"
    remaining: list[Value] = []
    for term in terms:
        if not isinstance(term, Constant):
            remaining.append(term)
        elif bool(term.value) == deciding_value:
            remaining.append(TRUE if deciding_value else FALSE)
            break
    if not remaining:
        return FALSE if deciding_value else TRUE
    if isinstance(remaining[0], Constant):
        return remaining[0]
    return Logic(op, tuple(remaining)) if len(remaining) > 1 else invert(invert(remaining[0]))
