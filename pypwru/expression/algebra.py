"""Constructors of the intermediate representation's nodes, which fold constants.

Establishes: the constant of a comparison is on its right; no operation has only constant operands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.expression import numbers
from pypwru.expression.numbers import (
    COMPARISONS,
    DIVISIONS,
    INVERSE,
    OPERATIONS,
    RESULTS,
    SHIFTS,
    SWAPPED,
    TRUTH,
    U32,
    U64,
    Number,
    common,
    operated,
    wrapped,
)
from pypwru.expression.tree import Arithmetic, Compare, Constant, Logic, Not, Text, Unary, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pypwru.expression.source import Mark

TRUE, FALSE = Constant(1, TRUTH), Constant(0, TRUTH)


def number_of(value: Value) -> Number:
    """Return the type of ``value``."""
    return TRUTH if isinstance(value, Compare | Text | Not | Logic) else value.number


def constant(value: int, number: Number) -> Constant:
    """Return ``value``, the result of an operation of type ``number``, as a constant."""
    value = wrapped(value, number)
    return Constant(value, number if number in (U32, U64) else numbers.of(value))


def negated(operand: Value) -> Value:
    """Return ``-operand``."""
    number = common(number_of(operand), TRUTH)
    if isinstance(operand, Constant):
        return constant(-operand.value, number)
    return Unary("-", operand, number)


def complement(operand: Value) -> Value:
    """Return ``~operand``."""
    number = number_of(operand)
    number = number if number == U32 else common(number, TRUTH)
    if isinstance(operand, Constant):
        return constant(~operand.value, number)
    return Unary("~", operand, number)


def arithmetic(sign: str, left: Value, right: Value, mark: Mark) -> Value:
    """Return ``left sign right``.

    Args:
        sign: the operator.
        left, right: the operands.
        mark: the operator's position, for errors.

    Raises:
        FilterError: a division by the constant 0, or a shift by a constant that is not 0 to 63.
    """
    of_left, of_right = number_of(left), number_of(right)
    number = RESULTS[sign](of_left, of_right)
    if isinstance(right, Constant):
        if sign in SHIFTS and not 0 <= right.value < 64:
            raise mark.error(f"a shift by {right.value}: 0 to 63 are possible")
        if sign in DIVISIONS and right.value == 0:
            raise mark.error("a division by 0")
        if sign == "<<" and number != U64 and not of_left.signed:
            bits = of_left.bits + right.value
            number = numbers.unsigned(bits) if bits < 63 else number
        if isinstance(left, Constant):
            operands = operated(of_left, of_right, sign)
            first = wrapped(left.value, operands)
            second = right.value if sign in SHIFTS else wrapped(right.value, operands)
            return constant(OPERATIONS[sign](first, second), number)
    return Arithmetic(sign, left, right, number)


def compare(sign: str, left: Value, right: Value, mark: Mark) -> Value:
    """Return ``left sign right``, a comparison.

    Args:
        sign: the operator.
        left, right: the operands.
        mark: the operator's position, for errors.

    Raises:
        FilterError: == or != with a constant that is not in the range of the other operand.
    """
    if isinstance(left, Constant):
        sign, left, right = SWAPPED[sign], right, left
    operands = common(number_of(left), number_of(right))
    if isinstance(left, Constant) and isinstance(right, Constant):
        values = (wrapped(side.value, operands) for side in (left, right))
        return TRUE if COMPARISONS[sign](*values) else FALSE
    if isinstance(right, Constant) and sign in ("==", "!="):
        number, value = number_of(left), right.value
        if number.bits < 64 and not number.low <= value <= number.high:
            raise mark.error(
                f"the operand compared with {value} is {number.low} to {number.high} and never "
                f"{value}"
            )
    return Compare(sign, left, right, operands)


def inverse(operand: Value) -> Value:
    """Return ``!operand``."""
    if isinstance(operand, Constant):
        return FALSE if operand.value else TRUE
    if isinstance(operand, Compare):
        return operand._replace(sign=INVERSE[operand.sign])
    return Not(operand)


def logic(sign: str, terms: Iterable[Value]) -> Value:
    """Return ``term && term ...`` or ``term || term ...``, simplified.

    Constant terms that don't decide the result are dropped, and so is everything after one that
    does. Terms before that one stay: if their memory can't be read, the whole expression does not
    match.

    Args:
        sign: && or ||.
        terms: in the order of evaluation.
    """
    decides = sign == "||"
    kept: list[Value] = []
    for term in terms:
        if not isinstance(term, Constant):
            kept.append(term)
        elif bool(term.value) == decides:
            kept.append(TRUE if decides else FALSE)
            break
    if not kept:
        return FALSE if decides else TRUE
    if isinstance(kept[0], Constant):
        return kept[0]
    return Logic(sign, tuple(kept)) if len(kept) > 1 else inverse(inverse(kept[0]))
