"""Code generation for integer arithmetic in registers.

r0 to r5 are used as a stack of intermediate results, so no helper may be called meanwhile. A signed
division divides the magnitudes and sets the sign: eBPF has signed division only since Linux 6.6.
"""

from __future__ import annotations

from collections.abc import Callable

from pypwru.asm import ebpf
from pypwru.asm.ebpf import R10, Assembler
from pypwru.errors import FilterError
from pypwru.expr.fold import type_of
from pypwru.expr.int_types import DIVISIONS, U32, U64
from pypwru.expr.ir import CONDITION_TYPES, Arithmetic, Compare, Constant, Read, Unary, Value

MAX_REGISTERS = 6
_ALU = {
    "+": ebpf.ADD, "-": ebpf.SUB, "*": ebpf.MUL, "/": ebpf.DIV, "%": ebpf.MOD,
    "&": ebpf.AND, "|": ebpf.OR, "^": ebpf.XOR, "<<": ebpf.LSH, ">>": ebpf.RSH,
}  # fmt: skip
CONDITION_BYTE, CONDITION_BIAS = 1, 1
"""A condition's 0 or 1 is stored in byte CONDITION_BYTE of its stack slot, plus CONDITION_BIAS. The
verifier tracks constants that are stored at the start of a slot, and zero bytes anywhere; it would
walk the rest of the program once for each value, so paths would double with each condition."""
SlotLookup = Callable[[Value], int]
"""Returns the offset from r10 of the slot that holds a read's bytes or a condition's result."""


def evaluate(asm: Assembler, value: Value, dst: int, slot_of: SlotLookup) -> None:
    """Generate register ``dst`` = ``value``; ``dst`` + 1 to r5 are clobbered.

    Args:
        asm: receives the instructions.
        value: all that it reads is in stack slots.
        dst: the register's number.
        slot_of: returns the slot of a read or condition.

    Raises:
        FilterError: it needs more registers than are left.
    """
    if dst >= MAX_REGISTERS or dst + registers_needed(value) > MAX_REGISTERS:
        raise FilterError(
            "the expression computes too much at once: split it, with && between the parts"
        )
    if isinstance(value, Constant):
        asm.constant64(dst, value.value)
    elif isinstance(value, Read):
        _load_integer(asm, value, dst, slot_of(value))
    elif isinstance(value, CONDITION_TYPES):
        asm.load(1, dst, R10, slot_of(value) + CONDITION_BYTE)
        asm.add(dst, -CONDITION_BIAS)
    elif isinstance(value, Unary):
        _evaluate_unary(asm, value, dst, slot_of)
    else:
        _evaluate_binary(asm, value, dst, slot_of)


def evaluate_operands(
    asm: Assembler, value: Arithmetic | Compare, dst: int, slot_of: SlotLookup
) -> tuple[int, int]:
    """Generate the evaluation of both operands of ``value``, the larger one first.

    Args:
        asm: receives the instructions.
        value: the operation.
        dst: the first of the registers to use.
        slot_of: returns the slot of a read or condition.

    Returns:
        The registers of the left and right operand: ``dst`` and ``dst`` + 1 in some order.
    """
    if registers_needed(value.right) > registers_needed(value.left):
        evaluate(asm, value.right, dst, slot_of)
        evaluate(asm, value.left, dst + 1, slot_of)
        return dst + 1, dst
    evaluate(asm, value.left, dst, slot_of)
    evaluate(asm, value.right, dst + 1, slot_of)
    return dst, dst + 1


def as_immediate(value: Value) -> int | None:
    """Return ``value`` as the s32 immediate of a 64-bit instruction, or None."""
    if not isinstance(value, Constant):
        return None
    signed = value.value - (1 << 64) if value.value >> 63 > 0 else value.value
    return signed if -(1 << 31) <= signed < 1 << 31 else None


def registers_needed(value: Value) -> int:
    """Return the number of registers that ``value`` needs (its Sethi-Ullman number)."""
    if isinstance(value, Unary):
        return registers_needed(value.operand)
    if not isinstance(value, Arithmetic):
        return 1
    if _has_immediate(value):
        return registers_needed(value.left)
    left, right = registers_needed(value.left), registers_needed(value.right)
    needed = left + 1 if left == right else max(left, right)
    return max(needed, 3) if _is_signed_division(value) else needed


def _has_immediate(value: Arithmetic) -> bool:
    return as_immediate(value.right) is not None and not _is_signed_division(value)


def _is_signed_division(value: Arithmetic) -> bool:
    operands = (type_of(value.left), type_of(value.right))
    return (
        value.op in DIVISIONS and U64 not in operands and any(number.signed for number in operands)
    )


def _load_integer(asm: Assembler, read: Read, dst: int, offset: int) -> None:
    size = read.memory.size if read.memory.size in ebpf.MEMORY_SIZE else 8
    asm.load(size, dst, R10, offset)
    if read.is_big_endian:
        asm.from_big_endian(dst, size)
    bits, signed = read.int_type.bits, read.int_type.signed
    if bits == 8 * size and not (signed and bits < 64):
        return
    left, right = 64 - read.shift - bits, 64 - bits
    if left:
        asm.alu(ebpf.LSH, dst, left)
    if right:
        asm.alu(ebpf.ARSH if signed else ebpf.RSH, dst, right)


def _evaluate_unary(asm: Assembler, value: Unary, dst: int, slot_of: SlotLookup) -> None:
    evaluate(asm, value.operand, dst, slot_of)
    if value.op == "-":
        asm.negate(dst)
    elif value.int_type == U32:
        asm.alu32(ebpf.XOR, dst, -1)
    else:
        asm.alu(ebpf.XOR, dst, -1)


def _evaluate_binary(asm: Assembler, value: Arithmetic, dst: int, slot_of: SlotLookup) -> None:
    operation = _ALU[value.op]
    if value.op == ">>" and type_of(value.left).signed:
        operation = ebpf.ARSH
    constant = as_immediate(value.right)
    if constant is not None and _has_immediate(value):
        evaluate(asm, value.left, dst, slot_of)
        asm.alu(operation, dst, constant)
        return
    left, right = evaluate_operands(asm, value, dst, slot_of)
    if _is_signed_division(value):
        _divide_signed(asm, operation, left, right, dst + 2)
    else:
        asm.alu_register(operation, left, right)
    if left != dst:
        asm.move(dst, left)


def _divide_signed(asm: Assembler, operation: int, left: int, right: int, scratch: int) -> None:
    """Generate left = left / right or left % right, truncated towards zero.

    A division by 0 gives 0, and % gives ``left``, as in BPF.

    Args:
        asm: receives the instructions.
        operation: ebpf.DIV or ebpf.MOD.
        left: register of the dividend, and of the result.
        right: register of the divisor; clobbered.
        scratch: another register, clobbered.
    """
    asm.move(scratch, left)
    if operation == ebpf.DIV:
        asm.alu_register(ebpf.XOR, scratch, right)
    for register in (left, right):
        _negate_if_negative(asm, register, register)
    asm.alu_register(operation, left, right)
    _negate_if_negative(asm, left, scratch)


def _negate_if_negative(asm: Assembler, register: int, sign: int) -> None:
    """Generate register = -register if register ``sign`` is negative."""
    done = asm.new_label()
    asm.branch(ebpf.JSGE, sign, 0, done)
    asm.negate(register)
    asm.bind_label(done)
