"""Numbers in registers: what is computed between two reads of kernel memory.

r0 to r5 are a stack of intermediate results. A division of numbers that may be negative is one of
their magnitudes: signed instructions exist since Linux 6.6 only.
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
"""A condition's 0 or 1 is in the second byte of its slot, one more than it is. The verifier knows
what is at the start of a slot, and zeros anywhere; it would follow both values of each condition
through all that comes, twice as many ways each time."""
Slot = Callable[[Value], int]
"""The offset from r10 of a read's cell, or of the 0 or 1 that a condition gave."""


def evaluate(asm: Assembler, value: Value, to: int, slot: Slot) -> None:
    """Register ``to`` = ``value``; the registers behind it, up to r5, are lost.

    Raises:
        FilterError: it needs more registers.
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
    """Both operands, the one that needs more registers first; gives the registers they are in."""
    if registers(value.right) > registers(value.left):
        evaluate(asm, value.right, to, slot)
        evaluate(asm, value.left, to + 1, slot)
        return to + 1, to
    evaluate(asm, value.left, to, slot)
    evaluate(asm, value.right, to + 1, slot)
    return to, to + 1


def immediate(value: Value) -> int | None:
    """``value`` as the s32 of an instruction on 64 bits, if it is one."""
    if not isinstance(value, Constant):
        return None
    number = value.value - (1 << 64) if value.value >> 63 > 0 else value.value
    return number if -(1 << 31) <= number < 1 << 31 else None


def registers(value: Value) -> int:
    """How many registers ``value`` needs (Sethi and Ullman's number)."""
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
    """left = left / right or left % right, towards zero; by 0: 0 and left, as BPF has it."""
    asm.move(spare, left)
    if operation == ebpf.DIV:
        asm.alu_register(ebpf.XOR, spare, right)
    for register in (left, right):
        _negate_below_zero(asm, register, register)
    asm.alu_register(operation, left, right)
    _negate_below_zero(asm, left, spare)


def _negate_below_zero(asm: Assembler, register: int, sign: int) -> None:
    """register = -register if ``sign`` is negative."""
    done = asm.label()
    asm.branch(ebpf.JSGE, sign, 0, done)
    asm.negate(register)
    asm.place(done)
