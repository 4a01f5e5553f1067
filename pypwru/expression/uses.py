"""Pass 4: which cells are worth a slot for good: more than one part of the tree reads them."""

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
    """The cells that ``tree`` needs more than once, pointers on the way too; most used first."""
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
    """The parts of ``value`` that are evaluated at once or not at all."""
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
    """The cells that a unit reads, without those of the conditions in it."""
    if isinstance(unit, Text):
        return {unit.cell}
    return {part.cell for part in _parts(unit) if isinstance(part, Read) and part.cell.steps}


def conditions(unit: Value) -> list[Value]:
    """The comparisons and the like whose 0 or 1 a unit computes with."""
    return [part for part in _parts(unit) if part is not unit and isinstance(part, TRUTHS)]


def _parts(unit: Value) -> Iterator[Value]:
    yield unit
    for operand in operands(unit):
        if isinstance(operand, TRUTHS):
            yield operand
        else:
            yield from _parts(operand)


def operands(value: Value) -> tuple[Value, ...]:
    """Of arithmetic and comparisons."""
    if isinstance(value, Arithmetic | Compare):
        return value.left, value.right
    return (value.operand,) if isinstance(value, Unary) else ()
