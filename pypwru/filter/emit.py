"""Pass 9b: code generation of the body, block by block.

A is in r0 and X in r1, zero-extended; r2 to r4 are temporaries. r6-r9 are never touched: the host
program may not even have initialised them. What must survive a helper call is saved on the stack
around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pypwru.filter import ebpf
from pypwru.filter.blocks import MATCH, NO_MATCH, Block
from pypwru.filter.cbpf import RETURN_A, ClassicInstruction, Kind
from pypwru.filter.ebpf import R2, R3, R4, R10, Assembler, Insn
from pypwru.filter.frame import (
    BUDGET,
    CAPLEN,
    DATA,
    FAR,
    LENGTH,
    NEAR,
    SAVED_A,
    SAVED_X,
    WINDOW,
    Frame,
    pieces,
    strip_name,
)
from pypwru.filter.head import CAPLEN_KEPT, LEN_KEPT, A, X, call_read, copy, emit_head
from pypwru.filter.reads import USUAL_LENGTH
from pypwru.filter.vlan import TAG_OFFSET, TAG_SIZE

if TYPE_CHECKING:
    from pypwru.filter.plan import Plan

END, SHORT = -3, -4
BEYOND = 1 << 32
"""The result of a filter that ended, without a match, at a load beyond the packet's end. It is for
filters that are run again on a copy that includes the bytes in fragments; see bpf/fragments.h."""
REGISTERS = {"A": A, "X": X}
_SAVED = (("A", A, SAVED_A), ("X", X, SAVED_X))
_INVERSE = {ebpf.JEQ: ebpf.JNE, ebpf.JGT: ebpf.JLE, ebpf.JGE: ebpf.JLT}
_DIVISIONS = (ebpf.DIV, ebpf.MOD)
_SHIFTS = (ebpf.LSH, ebpf.RSH)


def emit(plan: Plan, frame: Frame, *, tells_missing: bool = False) -> list[Insn]:
    """Generate the whole filter. On exit r0 is 0 for no match; control leaves at the end.

    Args:
        plan: the filter.
        frame: its stack slots.
        tells_missing: r0 is BEYOND, not 0, if a load was beyond the packet's end.
    """
    return _Emitter(plan, frame, SHORT if tells_missing else NO_MATCH).emit()


class _Emitter:
    def __init__(self, plan: Plan, frame: Frame, short: int) -> None:
        self.plan = plan
        self.frame = frame
        self.short = short
        self.asm = Assembler()
        self.in_registers = not plan.reads.calls_in_body

    def emit(self) -> list[Insn]:
        """Generate the prologue, the blocks in order, and the exits."""
        blocks = list(self.plan.flow.blocks.values())
        emit_head(self.asm, self.plan, self.frame, self.short)
        matches = any(MATCH in block.successors for block in blocks)
        following = [*(block.start for block in blocks[1:]), MATCH if matches else NO_MATCH]
        for block, after in zip(blocks, following, strict=True):
            self._block(block, after)
        if matches:
            self.asm.place(MATCH)
            self.asm.constant(A, 1)
            self.asm.jump(END)
        falls = not matches and NO_MATCH in blocks[-1].successors
        if self.asm.is_target(SHORT):
            self._tell_missing(falls_in=falls)
        self.asm.place(NO_MATCH)
        if falls or self.asm.is_target(NO_MATCH):  # the verifier refuses unreachable code
            self.asm.constant(A, 0)
        return self.asm.finish()

    def _tell_missing(self, *, falls_in: bool) -> None:
        if falls_in:  # the last block falls through to NO_MATCH, which follows
            self.asm.jump(NO_MATCH)
        self.asm.place(SHORT)
        self.asm.constant(A, 1)
        self.asm.alu(ebpf.LSH, A, BEYOND.bit_length() - 1)
        self.asm.jump(END)

    def _block(self, block: Block, following: int) -> None:
        self.asm.place(block.start)
        if block.start != self.plan.flow.entry and block.start in self.plan.guards:
            caplen = self._kept(CAPLEN, CAPLEN_KEPT)
            self.asm.branch(ebpf.JLT, caplen, self.plan.guards[block.start], self.short)
        for position, instruction in zip(block.positions, block.instructions, strict=True):
            emit = _EMITTERS.get(instruction.kind)
            if emit is not None:
                emit(self, instruction, position)
        self._leave(block, following)

    def _leave(self, block: Block, following: int) -> None:
        last = block.instructions[-1]
        if last.code == RETURN_A:
            self.asm.jump(END)
            return
        if len(set(block.successors)) == 1:
            self._go(block, following)
            return
        if_true, if_false = block.successors
        operation = last.operation
        if if_true == following and operation in _INVERSE:
            operation, if_true, if_false = _INVERSE[operation], if_false, if_true
        if last.uses_x:
            self.asm.branch32_register(operation, A, X, if_true)
        else:
            self.asm.branch32(operation, A, last.k, if_true)
        if if_false != following:
            self.asm.jump(if_false)

    def _go(self, block: Block, following: int) -> None:
        target = block.successors[0]
        if 0 <= target <= block.start:
            self.asm.load(8, R2, R10, self.frame[BUDGET])
            self.asm.add(R2, -1)
            self.asm.store(8, R10, self.frame[BUDGET], R2)
            self.asm.branch(ebpf.JEQ, R2, 0, NO_MATCH)
        if target != following:
            self.asm.jump(target)

    def _kept(self, name: str, register: int) -> int:
        """Return the register that holds ``name``: ``register``, or r3, loaded from the stack."""
        if self.in_registers:
            return register
        self.asm.load(8, R3, R10, self.frame[name])
        return R3

    def load_constant(self, instruction: ClassicInstruction, position: int) -> None:
        """Generate a load at a constant offset: from the header window, or by a helper call."""
        window = self.plan.reads.window
        if window and window.covers(instruction):
            where = self.frame[WINDOW] + instruction.k - window.low
        else:
            where = self.frame[FAR]
            self.asm.load(8, R3, R10, self.frame[DATA])
            self.asm.add(R3, instruction.k)
            self._call(where, instruction.form.size, instruction, position)
        register = REGISTERS[instruction.form.writes]
        self._from_stack(register, where, instruction.form.size)
        if instruction.kind is Kind.LOAD_HEADER_LENGTH:
            self.asm.alu32(ebpf.AND, X, 0x0F)
            self.asm.alu32(ebpf.LSH, X, 2)

    def load_indirect(self, instruction: ClassicInstruction, position: int) -> None:
        """Generate a load at X + k from its indirect window, which is filled if necessary."""
        self.check_indirect(instruction, position)
        load = self.plan.reads.indirect[position]
        span = self.plan.reads.strips[load.strip]
        where = self.frame[strip_name(load.strip)]
        if load.must_call:
            self._fill_strip(instruction, position)
        self._from_stack(A, where + instruction.k - span.low, instruction.form.size)

    def check_indirect(self, instruction: ClassicInstruction, position: int) -> None:
        """Generate the bounds check X + end <= caplen.

        It compares caplen - X with end. From a comparison with caplen itself the verifier would
        narrow the range of caplen in each iteration of a protochain loop, and then walk the rest of
        the loop and everything after it once for each. In 64 bits nothing wraps.
        """
        if self.plan.reads.indirect[position].must_check:
            if self.in_registers:
                self.asm.move(R3, CAPLEN_KEPT)
            else:
                self.asm.load(8, R3, R10, self.frame[CAPLEN])
            self.asm.subtract_register(R3, X)
            self.asm.branch(ebpf.JSLT, R3, instruction.end, self.short)

    def _fill_strip(self, instruction: ClassicInstruction, position: int) -> None:
        load = self.plan.reads.indirect[position]
        span = self.plan.reads.strips[load.strip]
        to = self.frame[strip_name(load.strip)]
        usual = self.plan.reads.usual_place(load)
        unusual, filled = self.asm.label(), self.asm.label()
        if usual is not None:
            self.asm.branch32(ebpf.JNE, X, USUAL_LENGTH, unusual)
            copy(self.asm, to, self.frame[WINDOW] + usual, span.size)
            self.asm.jump(filled)
            self.asm.place(unusual)
        self.asm.move(R3, X)
        self.asm.add(R3, span.low)
        self._address()
        self._call(to, span.size, instruction, position)
        self.asm.place(filled)

    def _address(self) -> None:
        """Generate r3 = the address of offset r3 of the packet.

        For a frame with an accelerated tag, bytes up to the end of the tag are in the header
        window, and the rest is in the packet, four bytes earlier. The address is selected without a
        branch: after a branch on X the verifier would walk all later iterations of a protochain
        loop once for each range of X.
        """
        if NEAR in self.frame:
            self.asm.move(R2, R3)
            self.asm.add(R2, -(TAG_OFFSET + TAG_SIZE))
            self.asm.sign(R2)
            self.asm.load(8, R4, R10, self.frame[NEAR])
            self.asm.and_register(R2, R4)
            self.asm.add_register(R3, R2)
        self.asm.load(8, R2, R10, self.frame[DATA])
        self.asm.add_register(R3, R2)

    def _call(self, to: int, size: int, instruction: ClassicInstruction, position: int) -> None:
        """Generate a read of packet bytes to the stack; A and X are saved if they are live after.

        Args:
            to: destination, as an offset from r10.
            size: in bytes, from the address in r3.
            instruction: the load.
            position: its position in the program.
        """
        live = self.plan.liveness.after[position] - set(instruction.form.writes)
        kept = [(register, slot) for name, register, slot in _SAVED if name in live]
        for register, slot in kept:
            self.asm.store(8, R10, self.frame[slot], register)
        call_read(self.asm, to, size)
        for register, slot in kept:
            self.asm.load(8, register, R10, self.frame[slot])

    def _from_stack(self, register: int, offset: int, size: int) -> None:
        """Generate register = the ``size`` bytes at r10 + ``offset``, to host byte order."""
        parts = pieces(offset, size)
        self._piece(register, *parts[0])
        for part_offset, part_size in parts[1:]:
            self.asm.alu32(ebpf.LSH, register, 8 * part_size)
            self._piece(R2, part_offset, part_size)
            self.asm.alu32_register(ebpf.OR, register, R2)

    def _piece(self, register: int, offset: int, size: int) -> None:
        self.asm.load(size, register, R10, offset)
        self.asm.from_big_endian(register, size)

    def load_immediate(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate A or X = k."""
        self.asm.constant(REGISTERS[instruction.form.writes], instruction.k)

    def load_length(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate A or X = the packet's length, as u32."""
        self.asm.move32(REGISTERS[instruction.form.writes], self._kept(LENGTH, LEN_KEPT))

    def load_scratch(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate A or X = M[k]."""
        register = REGISTERS[instruction.form.writes]
        self.asm.load(4, register, R10, self.frame[f"M{instruction.k}"])

    def store_scratch(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate M[k] = A or X."""
        register = REGISTERS[instruction.form.reads]
        self.asm.store(4, R10, self.frame[f"M{instruction.k}"], register)

    def move(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate ``tax`` or ``txa``."""
        form = instruction.form
        self.asm.move32(REGISTERS[form.writes], REGISTERS[form.reads])

    def alu(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate an ALU operation on A; a division by X = 0 ends the filter without a match."""
        operation = instruction.operation
        if operation in _SHIFTS:
            self._shift(instruction)
        elif instruction.uses_x:
            if operation in _DIVISIONS:
                self.asm.branch32(ebpf.JEQ, X, 0, NO_MATCH)
            self.asm.alu32_register(operation, A, X)
        else:
            self.asm.alu32(operation, A, instruction.k)

    def _shift(self, instruction: ClassicInstruction) -> None:
        """Generate a shift. By 32 or more it gives 0, as in libpcap; eBPF masks the count by 31."""
        if instruction.uses_x:
            shift, done = self.asm.label(), self.asm.label()
            self.asm.branch32(ebpf.JLT, X, 32, shift)
            self.asm.constant(A, 0)
            self.asm.jump(done)
            self.asm.place(shift)
            self.asm.alu32_register(instruction.operation, A, X)
            self.asm.place(done)
        elif instruction.k < 32:
            self.asm.alu32(instruction.operation, A, instruction.k)
        else:
            self.asm.constant(A, 0)


_Emit = Callable[[_Emitter, ClassicInstruction, int], None]

_EMITTERS: dict[Kind, _Emit] = {
    Kind.LOAD_ABSOLUTE: _Emitter.load_constant,
    Kind.LOAD_HEADER_LENGTH: _Emitter.load_constant,
    Kind.LOAD_INDIRECT: _Emitter.load_indirect,
    Kind.CHECK_INDIRECT: _Emitter.check_indirect,
    Kind.LOAD_IMMEDIATE: _Emitter.load_immediate,
    Kind.LOAD_LENGTH: _Emitter.load_length,
    Kind.LOAD_SCRATCH: _Emitter.load_scratch,
    Kind.STORE_SCRATCH: _Emitter.store_scratch,
    Kind.ALU: _Emitter.alu,
    Kind.MOVE: _Emitter.move,
}
"""Jumps, branches and returns are generated at the end of their block; a check at a constant offset
is done by a guard."""
