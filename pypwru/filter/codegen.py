"""Pass 9b: code generation of the body, block by block.

A is in r0 and X in r1, zero-extended; r2 to r4 are temporaries. r6-r9 are never touched: the host
program may not even have initialised them. What must survive a helper call is saved on the stack
around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pypwru.asm import ebpf
from pypwru.asm.cbpf import RETURN_A, ClassicInstruction, InstructionKind
from pypwru.asm.ebpf import R2, R3, R4, R10, Assembler, Insn
from pypwru.filter.cfg import MATCH, NO_MATCH, Block
from pypwru.filter.packet_loads import IPV4_MIN_HEADER
from pypwru.filter.prologue import (
    CAPLEN_REGISTER,
    LEN_REGISTER,
    A,
    X,
    copy_stack,
    emit_prologue,
    read_packet,
)
from pypwru.filter.stack_layout import (
    CAPLEN_SLOT,
    DATA_SLOT,
    FAR_LOAD_SLOT,
    HEADER_WINDOW_SLOT,
    LENGTH_SLOT,
    LOOP_BUDGET_SLOT,
    SAVED_A_SLOT,
    SAVED_X_SLOT,
    WINDOW_DELTA_SLOT,
    StackLayout,
    indirect_window_slot,
    split_aligned,
)
from pypwru.filter.vlan import TAG_OFFSET, TAG_SIZE

if TYPE_CHECKING:
    from pypwru.filter.passes import Plan

END, TOO_SHORT = -3, -4
NEEDS_FRAGMENTS = 1 << 32
"""The result of a filter that ended, without a match, at a load beyond the packet's end. It is for
filters that run again on a copy with the bytes of fragments; see bpf/match/fragments.h."""
REGISTERS = {"A": A, "X": X}
_SAVED_REGISTERS = (("A", A, SAVED_A_SLOT), ("X", X, SAVED_X_SLOT))
_INVERSE = {ebpf.JEQ: ebpf.JNE, ebpf.JGT: ebpf.JLE, ebpf.JGE: ebpf.JLT}
_DIVISIONS = (ebpf.DIV, ebpf.MOD)
_SHIFTS = (ebpf.LSH, ebpf.RSH)


def emit(plan: Plan, layout: StackLayout, *, reports_beyond: bool = False) -> list[Insn]:
    """Generate the whole filter. On exit r0 is 0 for no match; control leaves at the end.

    Args:
        plan: the filter.
        layout: its stack slots.
        reports_beyond: r0 is NEEDS_FRAGMENTS, not 0, if a load was beyond the packet's end.
    """
    return _FilterEmitter(plan, layout, TOO_SHORT if reports_beyond else NO_MATCH).emit()


class _FilterEmitter:
    def __init__(self, plan: Plan, layout: StackLayout, too_short: int) -> None:
        self.plan = plan
        self.layout = layout
        self.too_short = too_short
        self.asm = Assembler()
        self.has_argument_registers = not plan.loads.has_calls_in_body

    def emit(self) -> list[Insn]:
        """Generate the prologue, the blocks in order, and the exits."""
        blocks = list(self.plan.cfg.blocks.values())
        emit_prologue(self.asm, self.plan, self.layout, self.too_short)
        has_match = any(MATCH in block.successors for block in blocks)
        next_labels = [*(block.start for block in blocks[1:]), MATCH if has_match else NO_MATCH]
        for block, next_label in zip(blocks, next_labels, strict=True):
            self._emit_block(block, next_label)
        if has_match:
            self.asm.bind_label(MATCH)
            self.asm.constant(A, 1)
            self.asm.jump(END)
        falls_through = not has_match and NO_MATCH in blocks[-1].successors
        if self.asm.is_target(TOO_SHORT):
            self._emit_beyond(falls_through=falls_through)
        self.asm.bind_label(NO_MATCH)
        if falls_through or self.asm.is_target(NO_MATCH):  # the verifier refuses unreachable code
            self.asm.constant(A, 0)
        return self.asm.finish()

    def _emit_beyond(self, *, falls_through: bool) -> None:
        if falls_through:  # the last block falls through to NO_MATCH, which follows
            self.asm.jump(NO_MATCH)
        self.asm.bind_label(TOO_SHORT)
        self.asm.constant(A, 1)
        self.asm.alu(ebpf.LSH, A, NEEDS_FRAGMENTS.bit_length() - 1)
        self.asm.jump(END)

    def _emit_block(self, block: Block, next_label: int) -> None:
        self.asm.bind_label(block.start)
        if block.start != self.plan.cfg.entry and block.start in self.plan.guards:
            caplen = self._saved_register(CAPLEN_SLOT, CAPLEN_REGISTER)
            self.asm.branch(ebpf.JLT, caplen, self.plan.guards[block.start], self.too_short)
        for position, instruction in zip(block.positions, block.instructions, strict=True):
            emit_instruction = _EMITTERS.get(instruction.kind)
            if emit_instruction is not None:
                emit_instruction(self, instruction, position)
        self._emit_terminator(block, next_label)

    def _emit_terminator(self, block: Block, next_label: int) -> None:
        last = block.instructions[-1]
        if last.code == RETURN_A:
            self.asm.jump(END)
            return
        if len(set(block.successors)) == 1:
            self._emit_jump(block, next_label)
            return
        if_true, if_false = block.successors
        operation = last.operation
        if if_true == next_label and operation in _INVERSE:
            operation, if_true, if_false = _INVERSE[operation], if_false, if_true
        if last.uses_x:
            self.asm.branch32_register(operation, A, X, if_true)
        else:
            self.asm.branch32(operation, A, last.k, if_true)
        if if_false != next_label:
            self.asm.jump(if_false)

    def _emit_jump(self, block: Block, next_label: int) -> None:
        target = block.successors[0]
        if 0 <= target <= block.start:
            self.asm.load(8, R2, R10, self.layout[LOOP_BUDGET_SLOT])
            self.asm.add(R2, -1)
            self.asm.store(8, R10, self.layout[LOOP_BUDGET_SLOT], R2)
            self.asm.branch(ebpf.JEQ, R2, 0, NO_MATCH)
        if target != next_label:
            self.asm.jump(target)

    def _saved_register(self, name: str, register: int) -> int:
        """Return the register that holds ``name``: ``register``, or r3, loaded from the stack."""
        if self.has_argument_registers:
            return register
        self.asm.load(8, R3, R10, self.layout[name])
        return R3

    def load_absolute(self, instruction: ClassicInstruction, position: int) -> None:
        """Generate a load at a constant offset: from the header window, or by a helper call."""
        window = self.plan.loads.header_window
        if window and window.covers(instruction):
            offset = self.layout[HEADER_WINDOW_SLOT] + instruction.k - window.low
        else:
            offset = self.layout[FAR_LOAD_SLOT]
            self.asm.load(8, R3, R10, self.layout[DATA_SLOT])
            self.asm.add(R3, instruction.k)
            self._read_packet(offset, instruction.opcode.size, instruction, position)
        register = REGISTERS[instruction.opcode.writes]
        self._load_number(register, offset, instruction.opcode.size)
        if instruction.kind is InstructionKind.LOAD_HEADER_LENGTH:
            self.asm.alu32(ebpf.AND, X, 0x0F)
            self.asm.alu32(ebpf.LSH, X, 2)

    def load_indirect(self, instruction: ClassicInstruction, position: int) -> None:
        """Generate a load at X + k from its indirect window, which is filled if necessary."""
        self.check_indirect(instruction, position)
        load = self.plan.loads.indirect_loads[position]
        window = self.plan.loads.indirect_windows[load.window]
        offset = self.layout[indirect_window_slot(load.window)]
        if load.must_call:
            self._fill_indirect_window(instruction, position)
        self._load_number(A, offset + instruction.k - window.low, instruction.opcode.size)

    def check_indirect(self, instruction: ClassicInstruction, position: int) -> None:
        """Generate the bounds check X + end <= caplen.

        It compares caplen - X with end. From a comparison with caplen itself the verifier would
        narrow the range of caplen in each iteration of a protochain loop, and then walk the rest of
        the loop and everything after it once for each. In 64 bits nothing wraps.
        """
        if self.plan.loads.indirect_loads[position].must_check:
            if self.has_argument_registers:
                self.asm.move(R3, CAPLEN_REGISTER)
            else:
                self.asm.load(8, R3, R10, self.layout[CAPLEN_SLOT])
            self.asm.subtract_register(R3, X)
            self.asm.branch(ebpf.JSLT, R3, instruction.end, self.too_short)

    def _fill_indirect_window(self, instruction: ClassicInstruction, position: int) -> None:
        load = self.plan.loads.indirect_loads[position]
        window = self.plan.loads.indirect_windows[load.window]
        dst = self.layout[indirect_window_slot(load.window)]
        header_offset = self.plan.loads.ihl_5_offset(load)
        has_options, filled = self.asm.new_label(), self.asm.new_label()
        if header_offset is not None:
            self.asm.branch32(ebpf.JNE, X, IPV4_MIN_HEADER, has_options)
            copy_stack(self.asm, dst, self.layout[HEADER_WINDOW_SLOT] + header_offset, window.size)
            self.asm.jump(filled)
            self.asm.bind_label(has_options)
        self.asm.move(R3, X)
        self.asm.add(R3, window.low)
        self._packet_address()
        self._read_packet(dst, window.size, instruction, position)
        self.asm.bind_label(filled)

    def _packet_address(self) -> None:
        """Generate r3 = the address of offset r3 of the packet.

        For a frame with an accelerated tag, bytes up to the end of the tag are in the header
        window, and the rest is in the packet, four bytes earlier. The address is selected without a
        branch: after a branch on X the verifier would walk all later iterations of a protochain
        loop once for each range of X.
        """
        if WINDOW_DELTA_SLOT in self.layout:
            self.asm.move(R2, R3)
            self.asm.add(R2, -(TAG_OFFSET + TAG_SIZE))
            self.asm.sign_mask(R2)
            self.asm.load(8, R4, R10, self.layout[WINDOW_DELTA_SLOT])
            self.asm.and_register(R2, R4)
            self.asm.add_register(R3, R2)
        self.asm.load(8, R2, R10, self.layout[DATA_SLOT])
        self.asm.add_register(R3, R2)

    def _read_packet(
        self, dst: int, size: int, instruction: ClassicInstruction, position: int
    ) -> None:
        """Generate a read of packet bytes to the stack; A and X are saved if they are live after.

        Args:
            dst: destination, as an offset from r10.
            size: in bytes, from the address in r3.
            instruction: the load.
            position: its position in the program.
        """
        live = self.plan.liveness.live_after[position] - set(instruction.opcode.writes)
        saved = [(register, slot) for name, register, slot in _SAVED_REGISTERS if name in live]
        for register, slot in saved:
            self.asm.store(8, R10, self.layout[slot], register)
        read_packet(self.asm, dst, size)
        for register, slot in saved:
            self.asm.load(8, register, R10, self.layout[slot])

    def _load_number(self, register: int, offset: int, size: int) -> None:
        """Generate register = the ``size`` bytes at r10 + ``offset``, to host byte order."""
        parts = split_aligned(offset, size)
        self._load_part(register, *parts[0])
        for part_offset, part_size in parts[1:]:
            self.asm.alu32(ebpf.LSH, register, 8 * part_size)
            self._load_part(R2, part_offset, part_size)
            self.asm.alu32_register(ebpf.OR, register, R2)

    def _load_part(self, register: int, offset: int, size: int) -> None:
        self.asm.load(size, register, R10, offset)
        self.asm.from_big_endian(register, size)

    def load_immediate(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate A or X = k."""
        self.asm.constant(REGISTERS[instruction.opcode.writes], instruction.k)

    def load_length(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate A or X = the packet's length, as u32."""
        self.asm.move32(
            REGISTERS[instruction.opcode.writes], self._saved_register(LENGTH_SLOT, LEN_REGISTER)
        )

    def load_scratch(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate A or X = M[k]."""
        register = REGISTERS[instruction.opcode.writes]
        self.asm.load(4, register, R10, self.layout[f"M{instruction.k}"])

    def store_scratch(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate M[k] = A or X."""
        register = REGISTERS[instruction.opcode.reads]
        self.asm.store(4, R10, self.layout[f"M{instruction.k}"], register)

    def move(self, instruction: ClassicInstruction, _: int) -> None:
        """Generate ``tax`` or ``txa``."""
        form = instruction.opcode
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
            shift, done = self.asm.new_label(), self.asm.new_label()
            self.asm.branch32(ebpf.JLT, X, 32, shift)
            self.asm.constant(A, 0)
            self.asm.jump(done)
            self.asm.bind_label(shift)
            self.asm.alu32_register(instruction.operation, A, X)
            self.asm.bind_label(done)
        elif instruction.k < 32:
            self.asm.alu32(instruction.operation, A, instruction.k)
        else:
            self.asm.constant(A, 0)


_InstructionEmitter = Callable[[_FilterEmitter, ClassicInstruction, int], None]

_EMITTERS: dict[InstructionKind, _InstructionEmitter] = {
    InstructionKind.LOAD_ABSOLUTE: _FilterEmitter.load_absolute,
    InstructionKind.LOAD_HEADER_LENGTH: _FilterEmitter.load_absolute,
    InstructionKind.LOAD_INDIRECT: _FilterEmitter.load_indirect,
    InstructionKind.CHECK_INDIRECT: _FilterEmitter.check_indirect,
    InstructionKind.LOAD_IMMEDIATE: _FilterEmitter.load_immediate,
    InstructionKind.LOAD_LENGTH: _FilterEmitter.load_length,
    InstructionKind.LOAD_SCRATCH: _FilterEmitter.load_scratch,
    InstructionKind.STORE_SCRATCH: _FilterEmitter.store_scratch,
    InstructionKind.ALU: _FilterEmitter.alu,
    InstructionKind.MOVE: _FilterEmitter.move,
}
"""Jumps, branches and returns are generated at the end of their block; a check at a constant offset
is done by a guard."""
