"""Pass 5: code generation: branches, and between them reads and arithmetic.

On entry r1 = address of the root's struct; on exit r0 != 0 for a match. r1-r5 are clobbered, r6-r9
never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm import ebpf
from pypwru.asm.ebpf import R0, R1, R10, Assembler, Insn
from pypwru.expr.arithmetic import (
    CONDITION_BIAS,
    CONDITION_BYTE,
    SlotLookup,
    as_immediate,
    evaluate,
    evaluate_operands,
)
from pypwru.expr.int_types import INVERSE, S64
from pypwru.expr.ir import Compare, Constant, Logic, MemoryRef, Not, Read, StringCompare, Value
from pypwru.expr.shared_reads import memory_refs, nested_conditions
from pypwru.expr.stack import SLOT_SIZE, MemoryReader, StackFrame

if TYPE_CHECKING:
    from collections.abc import Callable

MATCH, NO_MATCH, END = -1, -2, -3  # labels
_SIGNED_JUMPS = {
    "==": ebpf.JEQ, "!=": ebpf.JNE,
    "<": ebpf.JSLT, "<=": ebpf.JSLE, ">": ebpf.JSGT, ">=": ebpf.JSGE,
}  # fmt: skip
_UNSIGNED_JUMPS = {
    "==": ebpf.JEQ, "!=": ebpf.JNE,
    "<": ebpf.JLT, "<=": ebpf.JLE, ">": ebpf.JGT, ">=": ebpf.JGE,
}  # fmt: skip
_COMPARE_SIZES = (8, 4, 2, 1)
FilledReads = frozenset[MemoryRef]


def emit(tree: Value, cached_reads: list[MemoryRef], stack_base: int) -> list[Insn]:
    """Generate the whole filter.

    Args:
        tree: the filter; a packet matches if its value is not 0.
        cached_reads: the memory to read once and cache in a stack slot.
        stack_base: the lowest offset from r10 that is in use, 0 or negative.

    Raises:
        OutOfStack: it does not fit below ``stack_base``.
        FilterError: a part of it needs too many registers.
    """
    asm = Assembler()
    if isinstance(tree, Constant):
        asm.constant(R0, int(tree.value != 0))
        return asm.finish()
    frame = StackFrame(stack_base)
    root_slot = frame.allocate()
    slots = {ref: frame.allocate(max(ref.size, SLOT_SIZE)) for ref in cached_reads}
    asm.make_scalar(R1)  # the verifier restricts arithmetic on a BTF pointer, as fentry has
    asm.store(SLOT_SIZE, R10, root_slot, R1)
    _ExpressionEmitter(asm, frame, MemoryReader(asm, frame, root_slot, slots, NO_MATCH)).branch_on(
        tree, NO_MATCH, False
    )
    asm.constant(R0, 1)
    asm.jump(END)
    asm.bind_label(NO_MATCH)
    asm.constant(R0, 0)
    return asm.finish()


class _ExpressionEmitter:
    def __init__(self, asm: Assembler, frame: StackFrame, memory: MemoryReader) -> None:
        self._asm = asm
        self._frame = frame
        self._memory = memory
        self._condition_slots: dict[
            Value, int
        ] = {}  # condition -> offset of the slot with its 0 or 1

    def branch_on(self, value: Value, target: int, sense: bool) -> tuple[FilledReads, FilledReads]:
        """Generate a jump to ``target`` if the truth of ``value`` is ``sense``.

        Args:
            value: the condition.
            target: a label; otherwise control falls through.
            sense: the truth value to jump on.

        Returns:
            The cached reads whose slots are filled where it is true, and where it is false.
        """
        if isinstance(value, Not):
            if_true, if_false = self.branch_on(value.operand, target, not sense)
            return if_false, if_true
        if isinstance(value, Logic):
            return self._branch_on_logic(value, target, sense)
        self._branch_on_unit(value, target, sense)
        return self._memory.filled, self._memory.filled

    def _branch_on_logic(
        self, value: Logic, target: int, sense: bool
    ) -> tuple[FilledReads, FilledReads]:
        """As ``branch_on``: in && a false term decides, in || a true one."""
        deciding_value = value.op == "||"
        end_label = self._asm.new_label()
        exit_label = target if sense == deciding_value else end_label
        *others, last = value.terms
        filled_at_exits: list[FilledReads] = []
        for term in others:
            filled = self.branch_on(term, exit_label, deciding_value)
            filled_at_exits.append(filled[not deciding_value])
            self._memory.filled = filled[deciding_value]
        filled = self.branch_on(last, target, sense)
        if exit_label == end_label:
            self._asm.bind_label(end_label)
        common = filled[not deciding_value].intersection(*filled_at_exits)
        return (common, filled[1]) if deciding_value else (filled[0], common)

    def _branch_on_unit(self, value: Value, target: int, sense: bool) -> None:
        """Generate an evaluation unit: its conditions, its reads, then the test of its value."""
        outer_slots = dict(self._condition_slots)
        with self._memory.scope():
            for condition in nested_conditions(value):
                self._materialize(condition)
            for ref in sorted(memory_refs(value)):
                self._memory.fetch(ref)
            _BRANCHES.get(type(value), _ExpressionEmitter._branch_on_number)(
                self, value, target, sense
            )
        self._condition_slots = outer_slots

    def _materialize(self, condition: Value) -> None:
        """Generate the evaluation of ``condition`` to 0 or 1 in a slot, unless it is in one."""
        if condition in self._condition_slots:
            return
        slot, is_false, done = self._frame.allocate(), self._asm.new_label(), self._asm.new_label()
        if_true, if_false = self.branch_on(condition, is_false, False)
        self._asm.constant(R0, 1 + CONDITION_BIAS)
        self._asm.jump(done)
        self._asm.bind_label(is_false)
        self._asm.constant(R0, CONDITION_BIAS)
        self._asm.bind_label(done)
        self._asm.store(1, R10, slot + CONDITION_BYTE, R0)
        self._memory.filled = if_true & if_false
        self._condition_slots[condition] = slot

    @property
    def _slot_lookup(self) -> SlotLookup:
        def slot_of(value: Value) -> int:
            return (
                self._memory.slot_of(value.memory)
                if isinstance(value, Read)
                else self._condition_slots[value]
            )

        return slot_of

    def _branch_on_comparison(self, value: Compare, target: int, sense: bool) -> None:
        op = value.op if sense else INVERSE[value.op]
        operation = (_SIGNED_JUMPS if value.operand_type == S64 else _UNSIGNED_JUMPS)[op]
        constant = as_immediate(value.right)
        if constant is not None:
            evaluate(self._asm, value.left, R0, self._slot_lookup)
            self._asm.branch(operation, R0, constant, target)
            return
        left, right = evaluate_operands(self._asm, value, R0, self._slot_lookup)
        self._asm.branch_register(operation, left, right, target)

    def _branch_on_number(self, value: Value, target: int, sense: bool) -> None:
        evaluate(self._asm, value, R0, self._slot_lookup)
        self._asm.branch(ebpf.JNE if sense else ebpf.JEQ, R0, 0, target)

    def _branch_on_string(self, value: StringCompare, target: int, sense: bool) -> None:
        mismatch_label = self._asm.new_label() if sense else target
        offset, data = self._memory.slot_of(value.memory), value.data
        while data:
            size = next(access_size for access_size in _COMPARE_SIZES if access_size <= len(data))
            self._asm.load(size, R0, R10, offset)
            self._asm.constant64(R1, int.from_bytes(data[:size], "little"))
            self._asm.branch_register(ebpf.JNE, R0, R1, mismatch_label)
            offset, data = offset + size, data[size:]
        if sense:
            self._asm.jump(target)
            self._asm.bind_label(mismatch_label)


_BRANCHES: dict[type, Callable[..., None]] = {
    Compare: _ExpressionEmitter._branch_on_comparison,
    StringCompare: _ExpressionEmitter._branch_on_string,
}
