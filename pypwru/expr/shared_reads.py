"""Pass 4: common reads, a common subexpression elimination of memory reads only.

Memory that several parts of an expression read gets a stack slot of its own and is read once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pypwru.expr.ir import (
    CONDITION_TYPES,
    Arithmetic,
    Compare,
    Logic,
    MemoryRef,
    Not,
    Read,
    StringCompare,
    Unary,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def common_reads(tree: Value) -> list[MemoryRef]:
    """Return the memory that ``tree`` reads more than once, pointers included, most used first."""
    uses = Counter[MemoryRef]()
    pending = [ref for unit in evaluation_units(tree) for ref in memory_refs(unit)]
    visited = set[MemoryRef]()
    while pending:
        ref = pending.pop()
        uses[ref] += 1
        if ref not in visited and ref.pointer:
            pending.append(ref.pointer)
        visited.add(ref)
    return [ref for ref, count in uses.most_common() if count > 1]


def evaluation_units(value: Value) -> Iterator[Value]:
    """Yield the evaluation units of ``value``: the parts without short-circuit inside.

    All reads of a unit are done if the unit is evaluated at all. Conditions inside a unit, whose 0
    or 1 it computes with, follow as units of their own.
    """
    if isinstance(value, Logic):
        for term in value.terms:
            yield from evaluation_units(term)
    elif isinstance(value, Not):
        yield from evaluation_units(value.operand)
    else:
        yield value
        for part in nested_conditions(value):
            yield from evaluation_units(part)


def memory_refs(unit: Value) -> set[MemoryRef]:
    """Return the memory that a unit reads, without that of the conditions in it."""
    if isinstance(unit, StringCompare):
        return {unit.memory}
    return {
        part.memory
        for part in _subexpressions(unit)
        if isinstance(part, Read) and part.memory.offsets
    }


def nested_conditions(unit: Value) -> list[Value]:
    """Return the conditions (comparisons, !, &&, ||) whose 0 or 1 a unit computes with."""
    return [
        part
        for part in _subexpressions(unit)
        if part is not unit and isinstance(part, CONDITION_TYPES)
    ]


def _subexpressions(unit: Value) -> Iterator[Value]:
    yield unit
    for operand in operands(unit):
        if isinstance(operand, CONDITION_TYPES):
            yield operand
        else:
            yield from _subexpressions(operand)


def operands(value: Value) -> tuple[Value, ...]:
    """Return the operands of arithmetic and comparisons; none of other values."""
    if isinstance(value, Arithmetic | Compare):
        return value.left, value.right
    return (value.operand,) if isinstance(value, Unary) else ()
