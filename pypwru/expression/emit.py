"""Pass 5: code generation: branches, and between them reads and arithmetic.

On entry r1 = address of the root's struct; on exit r0 != 0 for a match. r1-r5 are clobbered, r6-r9
never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.expression.arithmetic import TRUTH_OFFSET, TRUTH_PLACE, Slot, evaluate, immediate, pair
from pypwru.expression.memory import SLOT, Frame, Memory
from pypwru.expression.numbers import INVERSE, S64
from pypwru.expression.tree import Cell, Compare, Constant, Logic, Not, Read, Text, Value
from pypwru.expression.uses import cells, conditions
from pypwru.filter import ebpf
from pypwru.filter.ebpf import R0, R1, R10, Assembler, Insn

if TYPE_CHECKING:
    from collections.abc import Callable

MATCH, NO_MATCH, END = -1, -2, -3  # labels
_SIGNED = {
    "==": ebpf.JEQ, "!=": ebpf.JNE,
    "<": ebpf.JSLT, "<=": ebpf.JSLE, ">": ebpf.JSGT, ">=": ebpf.JSGE,
}  # fmt: skip
_UNSIGNED = {
    "==": ebpf.JEQ, "!=": ebpf.JNE,
    "<": ebpf.JLT, "<=": ebpf.JLE, ">": ebpf.JGT, ">=": ebpf.JGE,
}  # fmt: skip
_UNITS = (8, 4, 2, 1)
Known = frozenset[Cell]


def emit(tree: Value, kept: list[Cell], stack_base: int) -> list[Insn]:
    """Generate the whole filter.

    Args:
        tree: the filter; a packet matches if its value is not 0.
        kept: the memory to read once and cache in a stack slot.
        stack_base: the lowest offset from r10 that is in use, 0 or negative.

    Raises:
        OutOfStack: it does not fit below ``stack_base``.
        FilterError: a part of it needs too many registers.
    """
    asm = Assembler()
    if isinstance(tree, Constant):
        asm.constant(R0, int(tree.value != 0))
        return asm.finish()
    frame = Frame(stack_base)
    root = frame.take()
    slots = {cell: frame.take(max(cell.size, SLOT)) for cell in kept}
    asm.forget_pointer(R1)  # the verifier restricts arithmetic on a BTF pointer, as fentry has
    asm.store(SLOT, R10, root, R1)
    _Emitter(asm, frame, Memory(asm, frame, root, slots, NO_MATCH)).jump(tree, NO_MATCH, False)
    asm.constant(R0, 1)
    asm.jump(END)
    asm.place(NO_MATCH)
    asm.constant(R0, 0)
    return asm.finish()


class _Emitter:
    def __init__(self, asm: Assembler, frame: Frame, memory: Memory) -> None:
        self._asm = asm
        self._frame = frame
        self._memory = memory
        self._made: dict[Value, int] = {}  # condition -> offset of the slot with its 0 or 1

    def jump(self, value: Value, target: int, sense: bool) -> tuple[Known, Known]:
        """Generate a jump to ``target`` if the truth of ``value`` is ``sense``.

        Args:
            value: the condition.
            target: a label; otherwise control falls through.
            sense: the truth value to jump on.

        Returns:
            The cached reads whose slots are filled where it is true, and where it is false.
        """
        if isinstance(value, Not):
            if_true, if_false = self.jump(value.operand, target, not sense)
            return if_false, if_true
        if isinstance(value, Logic):
            return self._logic(value, target, sense)
        self._unit(value, target, sense)
        return self._memory.known, self._memory.known

    def _logic(self, value: Logic, target: int, sense: bool) -> tuple[Known, Known]:
        """As ``jump``: in && a false term decides, in || a true one."""
        decisive = value.sign == "||"
        after = self._asm.label()
        decided = target if sense == decisive else after
        *others, last = value.terms
        early: list[Known] = []
        for term in others:
            known = self.jump(term, decided, decisive)
            early.append(known[not decisive])
            self._memory.known = known[decisive]
        known = self.jump(last, target, sense)
        if decided == after:
            self._asm.place(after)
        common = known[not decisive].intersection(*early)
        return (common, known[1]) if decisive else (known[0], common)

    def _unit(self, value: Value, target: int, sense: bool) -> None:
        """Generate an evaluation unit: its conditions, its reads, then the test of its value."""
        made = dict(self._made)
        with self._memory.scope():
            for condition in conditions(value):
                self._make(condition)
            for cell in sorted(cells(value)):
                self._memory.fetch(cell)
            _TESTS.get(type(value), _Emitter._number)(self, value, target, sense)
        self._made = made

    def _make(self, condition: Value) -> None:
        """Generate the evaluation of ``condition`` to 0 or 1 in a slot, unless it is in one."""
        if condition in self._made:
            return
        slot, is_false, done = self._frame.take(), self._asm.label(), self._asm.label()
        if_true, if_false = self.jump(condition, is_false, False)
        self._asm.constant(R0, 1 + TRUTH_OFFSET)
        self._asm.jump(done)
        self._asm.place(is_false)
        self._asm.constant(R0, TRUTH_OFFSET)
        self._asm.place(done)
        self._asm.store(1, R10, slot + TRUTH_PLACE, R0)
        self._memory.known = if_true & if_false
        self._made[condition] = slot

    @property
    def _slot(self) -> Slot:
        def find(value: Value) -> int:
            return self._memory.slot(value.cell) if isinstance(value, Read) else self._made[value]

        return find

    def _compare(self, value: Compare, target: int, sense: bool) -> None:
        sign = value.sign if sense else INVERSE[value.sign]
        operation = (_SIGNED if value.operands == S64 else _UNSIGNED)[sign]
        constant = immediate(value.right)
        if constant is not None:
            evaluate(self._asm, value.left, R0, self._slot)
            self._asm.branch(operation, R0, constant, target)
            return
        left, right = pair(self._asm, value, R0, self._slot)
        self._asm.branch_register(operation, left, right, target)

    def _number(self, value: Value, target: int, sense: bool) -> None:
        evaluate(self._asm, value, R0, self._slot)
        self._asm.branch(ebpf.JNE if sense else ebpf.JEQ, R0, 0, target)

    def _text(self, value: Text, target: int, sense: bool) -> None:
        differs = self._asm.label() if sense else target
        where, data = self._memory.slot(value.cell), value.data
        while data:
            size = next(unit for unit in _UNITS if unit <= len(data))
            self._asm.load(size, R0, R10, where)
            self._asm.constant64(R1, int.from_bytes(data[:size], "little"))
            self._asm.branch_register(ebpf.JNE, R0, R1, differs)
            where, data = where + size, data[size:]
        if sense:
            self._asm.jump(target)
            self._asm.place(differs)


_TESTS: dict[type, Callable[..., None]] = {Compare: _Emitter._compare, Text: _Emitter._text}
