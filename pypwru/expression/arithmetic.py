"""Code generation for integer arithmetic in registers.

r0 to r5 are used as a stack of intermediate results, so no helper may be called meanwhile. A signed
division divides the magnitudes and sets the sign: eBPF has signed division only since Linux 6.6.
"""

from __future__ import annotations

from collections.abc import Callable

from pypwru.errors import FilterError
from pypwru.expression.algebra import number_of
from pypwru.expression.numbers import DIVISIONS, U32, U64
from pypwru.expression.tree import TRUTHS, Arithmetic, Compare, Constant, Read, Unary, Value
from pypwru.filter import ebpf
from pypwru.filter.ebpf import R10, Assembler

REGISTERS = 6
_ALU = {
    "+": ebpf.ADD, "-": ebpf.SUB, "*": ebpf.MUL, "/": ebpf.DIV, "%": ebpf.MOD,
    "&": ebpf.AND, "|": ebpf.OR, "^": ebpf.XOR, "<<": ebpf.LSH, ">>": ebpf.RSH,
}  # fmt: skip
TRUTH_PLACE, TRUTH_OFFSET = 1, 1
"""A condition's 0 or 1 is stored in byte TRUTH_PLACE of its stack slot, plus TRUTH_OFFSET. The
verifier tracks constants that are stored at the start of a slot, and zero bytes anywhere; it would
walk the rest of the program once for each value, so paths would double with each condition."""
Slot = Callable[[Value], int]
"""Returns the offset from r10 of the slot that holds a read's bytes or a condition's result."""


def evaluate(asm: Assembler, value: Value, to: int, slot: Slot) -> None:
    """Generate register ``to`` = ``value``; ``to`` + 1 to r5 are clobbered.

    Args:
        asm: receives the instructions.
        value: all that it reads is in stack slots.
        to: the register's number.
        slot: returns the slot of a read or condition.

    Raises:
        FilterError: it needs more registers than are left.
    """
    if to >= REGISTERS or to + registers(value) > REGISTERS:
        raise FilterError(
            "the expression computes too much at once: split it, with && between the parts"
        )
    if isinstance(value, Constant):
        asm.constant64(to, value.value)
    elif isinstance(value, Read):
        _load(asm, value, to, slot(value))
    elif isinstance(value, TRUTHS):
        asm.load(1, to, R10, slot(value) + TRUTH_PLACE)
        asm.add(to, -TRUTH_OFFSET)
    elif isinstance(value, Unary):
        _unary(asm, value, to, slot)
    else:
        _binary(asm, value, to, slot)


def pair(asm: Assembler, value: Arithmetic | Compare, to: int, slot: Slot) -> tuple[int, int]:
    """Generate the evaluation of both operands of ``value``, the larger one first.

    Args:
        asm: receives the instructions.
        value: the operation.
        to: the first of the registers to use.
        slot: returns the slot of a read or condition.

    Returns:
        The registers of the left and right operand: ``to`` and ``to`` + 1 in some order.
    """
    if registers(value.right) > registers(value.left):
        evaluate(asm, value.right, to, slot)
        evaluate(asm, value.left, to + 1, slot)
        return to + 1, to
    evaluate(asm, value.left, to, slot)
    evaluate(asm, value.right, to + 1, slot)
    return to, to + 1


def immediate(value: Value) -> int | None:
    """Return ``value`` as the s32 immediate of a 64-bit instruction, or None."""
    if not isinstance(value, Constant):
        return None
    number = value.value - (1 << 64) if value.value >> 63 > 0 else value.value
    return number if -(1 << 31) <= number < 1 << 31 else None


def registers(value: Value) -> int:
    """Return the number of registers that ``value`` needs (its Sethi-Ullman number)."""
    if isinstance(value, Unary):
        return registers(value.operand)
    if not isinstance(value, Arithmetic):
        return 1
    if _has_immediate(value):
        return registers(value.left)
    left, right = registers(value.left), registers(value.right)
    needed = left + 1 if left == right else max(left, right)
    return max(needed, 3) if _is_signed_division(value) else needed


def _has_immediate(value: Arithmetic) -> bool:
    return immediate(value.right) is not None and not _is_signed_division(value)


def _is_signed_division(value: Arithmetic) -> bool:
    operands = (number_of(value.left), number_of(value.right))
    return (
        value.sign in DIVISIONS
        and U64 not in operands
        and any(number.signed for number in operands)
    )


def _load(asm: Assembler, read: Read, to: int, where: int) -> None:
    size = read.cell.size if read.cell.size in ebpf.MEMORY_SIZE else 8
    asm.load(size, to, R10, where)
    if read.big_endian:
        asm.from_big_endian(to, size)
    bits, signed = read.number.bits, read.number.signed
    if bits == 8 * size and not (signed and bits < 64):
        return
    left, right = 64 - read.shift - bits, 64 - bits
    if left:
        asm.alu(ebpf.LSH, to, left)
    if right:
        asm.alu(ebpf.ARSH if signed else ebpf.RSH, to, right)


def _unary(asm: Assembler, value: Unary, to: int, slot: Slot) -> None:
    evaluate(asm, value.operand, to, slot)
    if value.sign == "-":
        asm.negate(to)
    elif value.number == U32:
        asm.alu32(ebpf.XOR, to, -1)
    else:
        asm.alu(ebpf.XOR, to, -1)


def _binary(asm: Assembler, value: Arithmetic, to: int, slot: Slot) -> None:
    operation = _ALU[value.sign]
    if value.sign == ">>" and number_of(value.left).signed:
        operation = ebpf.ARSH
    number = immediate(value.right)
    if number is not None and _has_immediate(value):
        evaluate(asm, value.left, to, slot)
        asm.alu(operation, to, number)
        return
    left, right = pair(asm, value, to, slot)
    if _is_signed_division(value):
        _divide_signed(asm, operation, left, right, to + 2)
    else:
        asm.alu_register(operation, left, right)
    if left != to:
        asm.move(to, left)


def _divide_signed(asm: Assembler, operation: int, left: int, right: int, spare: int) -> None:
    """Generate left = left / right or left % right, truncated towards zero.

    A division by 0 gives 0, and % gives ``left``, as in BPF.

    Args:
        asm: receives the instructions.
        operation: ebpf.DIV or ebpf.MOD.
        left, right: registers; ``right`` is clobbered.
        spare: another register, clobbered.
    """
    asm.move(spare, left)
    if operation == ebpf.DIV:
        asm.alu_register(ebpf.XOR, spare, right)
    for register in (left, right):
        _negate_below_zero(asm, register, register)
    asm.alu_register(operation, left, right)
    _negate_below_zero(asm, left, spare)


def _negate_below_zero(asm: Assembler, register: int, sign: int) -> None:
    """Generate register = -register if register ``sign`` is negative."""
    done = asm.label()
    asm.branch(ebpf.JSGE, sign, 0, done)
    asm.negate(register)
    asm.place(done)
