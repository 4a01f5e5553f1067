"""Pass 4: common reads, a common subexpression elimination of memory reads only.

Memory that several parts of an expression read gets a stack slot of its own and is read once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pypwru.expression.tree import (
    TRUTHS,
    Arithmetic,
    Cell,
    Compare,
    Logic,
    Not,
    Read,
    Text,
    Unary,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def shared(tree: Value) -> list[Cell]:
    """Return the memory that ``tree`` reads more than once, pointers included, most used first."""
    uses = Counter[Cell]()
    pending = [cell for unit in units(tree) for cell in cells(unit)]
    seen = set[Cell]()
    while pending:
        cell = pending.pop()
        uses[cell] += 1
        if cell not in seen and cell.pointer:
            pending.append(cell.pointer)
        seen.add(cell)
    return [cell for cell, count in uses.most_common() if count > 1]


def units(value: Value) -> Iterator[Value]:
    """Yield the evaluation units of ``value``: the parts without short-circuit inside.

    All reads of a unit are done if the unit is evaluated at all. Conditions inside a unit, whose 0
    or 1 it computes with, follow as units of their own.
    """
    if isinstance(value, Logic):
        for term in value.terms:
            yield from units(term)
    elif isinstance(value, Not):
        yield from units(value.operand)
    else:
        yield value
        for part in conditions(value):
            yield from units(part)


def cells(unit: Value) -> set[Cell]:
    """Return the memory that a unit reads, without that of the conditions in it."""
    if isinstance(unit, Text):
        return {unit.cell}
    return {part.cell for part in _parts(unit) if isinstance(part, Read) and part.cell.steps}


def conditions(unit: Value) -> list[Value]:
    """Return the conditions (comparisons, !, &&, ||) whose 0 or 1 a unit computes with."""
    return [part for part in _parts(unit) if part is not unit and isinstance(part, TRUTHS)]


def _parts(unit: Value) -> Iterator[Value]:
    yield unit
    for operand in operands(unit):
        if isinstance(operand, TRUTHS):
            yield operand
        else:
            yield from _parts(operand)


def operands(value: Value) -> tuple[Value, ...]:
    """Return the operands of arithmetic and comparisons; none of other values."""
    if isinstance(value, Arithmetic | Compare):
        return value.left, value.right
    return (value.operand,) if isinstance(value, Unary) else ()
