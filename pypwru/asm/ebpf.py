"""eBPF instructions: encoding and decoding, and an assembler with labels.

Opcodes and fields: Documentation/bpf/standardization/instruction-set.rst of Linux.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from pypwru.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Iterable

INSN_SIZE = 8  # bytes of a slot; ld_imm64 takes two
_INSN_LAYOUT = struct.Struct("<BBhi")

# Classes, in the low three bits.
LDX, ST, STX, ALU32, JMP, JMP32, ALU64 = 1, 2, 3, 4, 5, 6, 7
# Source bit: the second operand is an immediate or a register.
IMMEDIATE, REGISTER = 0x00, 0x08
# Operations of the ALU classes; classic BPF has the same numbers up to XOR.
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70
NEG, MOD, XOR, MOV, ARSH, BYTE_SWAP = 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0
# Operations of the jump classes.
JA, JEQ, JGT, JGE, JSET, JNE = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50
CALL, EXIT, JLT, JLE = 0x80, 0x90, 0xA0, 0xB0
JSGT, JSGE, JSLT, JSLE = 0x60, 0x70, 0xC0, 0xD0

LD_IMM64 = 0x18
CALL_HELPER = JMP | CALL
EXIT_PROGRAM = JMP | EXIT
PROBE_READ_KERNEL = 113  # BPF_FUNC_probe_read_kernel
R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)

# Size in bytes -> BPF_SIZE bits of a load or store; BPF_MEM is the mode.
MEMORY_SIZE = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}
SIZE_OF_MEMORY = {bits: size for size, bits in MEMORY_SIZE.items()}
MEMORY_MODE = 0x60


class Insn(NamedTuple):
    """One 8-byte slot of ``struct bpf_insn``: u8 code, u4 dst, u4 src, s16 off, s32 imm."""

    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0


def pack(program: Iterable[Insn]) -> bytes:
    """Return the program as bpf(2) loads it, of a little-endian machine."""
    return b"".join(_INSN_LAYOUT.pack(i.code, i.src << 4 | i.dst, i.off, i.imm) for i in program)


def unpack(program: bytes) -> list[Insn]:
    """Return the slots of ``program``, one :class:`Insn` each.

    An ld_imm64 has two slots; the second has code 0.

    Raises:
        FilterError: not a multiple of 8 bytes.
    """
    if len(program) % INSN_SIZE:
        raise FilterError(f"eBPF program has {len(program)} bytes, not a multiple of {INSN_SIZE}")
    return [
        Insn(code, registers & 15, registers >> 4, off, imm)
        for code, registers, off, imm in _INSN_LAYOUT.iter_unpack(program)
    ]


def is_jump(insn: Insn) -> bool:
    """Return whether ``insn`` is a jump in the class JMP or JMP32, not a call or exit."""
    return insn.code & 7 in (JMP, JMP32) and insn.code & 0xF0 not in (CALL, EXIT)


def signed_immediate(value: int) -> int:
    """Return a u32 reinterpreted as s32, the type of an instruction's immediate."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class Assembler:
    """Collects instructions. Jumps name labels, which :meth:`finish` resolves to offsets.

    In all methods ``dst``, ``src`` and ``base`` are register numbers, ``operation`` is the BPF_OP
    bits of an ALU or jump instruction (ADD, JEQ...), sizes and offsets are in bytes, and immediates
    fit into 32 bits. A label is any int. One that is never placed is the end of the program.
    """

    def __init__(self) -> None:
        self._insns: list[Insn] = []
        self._jumps: dict[int, int] = {}
        self._labels: dict[int, int] = {}
        self._last_label = 1 << 32

    def new_label(self) -> int:
        """Return a new label."""
        self._last_label += 1
        return self._last_label

    def bind_label(self, label: int) -> None:
        """Place ``label`` at the next instruction."""
        self._labels[label] = len(self._insns)

    def is_target(self, label: int) -> bool:
        """Return whether a jump to ``label`` was added."""
        return label in self._jumps.values()

    def move(self, dst: int, src: int) -> None:
        """dst = src, 64 bits."""
        self._insns.append(Insn(ALU64 | MOV | REGISTER, dst, src))

    def move32(self, dst: int, src: int) -> None:
        """dst = (u32)src."""
        self._insns.append(Insn(ALU32 | MOV | REGISTER, dst, src))

    def constant(self, dst: int, value: int) -> None:
        """dst = the u32 ``value``."""
        self._insns.append(Insn(ALU32 | MOV, dst, imm=signed_immediate(value)))

    def alu32(self, operation: int, dst: int, immediate: int) -> None:
        """dst = (u32)(dst operation immediate)."""
        self._insns.append(Insn(ALU32 | operation, dst, imm=signed_immediate(immediate)))

    def alu32_register(self, operation: int, dst: int, src: int) -> None:
        """dst = (u32)(dst operation src)."""
        self._insns.append(Insn(ALU32 | operation | REGISTER, dst, src))

    def constant64(self, dst: int, value: int) -> None:
        """dst = ``value``, signed or unsigned, of up to 64 bits."""
        if 0 <= value < 1 << 32:
            self.constant(dst, value)
        elif -(1 << 31) <= value < 0:
            self._insns.append(Insn(ALU64 | MOV, dst, imm=value))
        else:
            self._insns.append(Insn(LD_IMM64, dst, imm=signed_immediate(value)))
            self._insns.append(Insn(0, imm=signed_immediate(value >> 32)))

    def alu(self, operation: int, dst: int, immediate: int) -> None:
        """dst = dst operation immediate, 64 bits; the immediate is an s32."""
        self._insns.append(Insn(ALU64 | operation, dst, imm=immediate))

    def alu_register(self, operation: int, dst: int, src: int) -> None:
        """dst = dst operation src, 64 bits."""
        self._insns.append(Insn(ALU64 | operation | REGISTER, dst, src))

    def negate(self, dst: int) -> None:
        """dst = -dst, 64 bits."""
        self._insns.append(Insn(ALU64 | NEG, dst))

    def add(self, dst: int, immediate: int) -> None:
        """dst += immediate, 64 bits; no instruction if it is 0."""
        if immediate:
            self.alu(ADD, dst, immediate)

    def add_register(self, dst: int, src: int) -> None:
        """dst += src, 64 bits."""
        self.alu_register(ADD, dst, src)

    def subtract_register(self, dst: int, src: int) -> None:
        """dst -= src, 64 bits."""
        self.alu_register(SUB, dst, src)

    def and_register(self, dst: int, src: int) -> None:
        """dst &= src, 64 bits."""
        self.alu_register(AND, dst, src)

    def sign_mask(self, dst: int) -> None:
        """dst = dst < 0 ? all ones : 0, 64 bits."""
        self.alu(ARSH, dst, 63)

    def make_scalar(self, dst: int) -> None:
        """Make dst an unknown scalar to the verifier; its value stays the same.

        le64 does nothing on a little-endian machine, and the verifier does not track its result.
        For a pointer this needs a loader that may leak pointers (CAP_PERFMON).
        """
        self._insns.append(Insn(ALU32 | BYTE_SWAP, dst, imm=64))

    def from_big_endian(self, dst: int, size: int) -> None:
        """dst = the low ``size`` bytes of dst, from network to host byte order, zero-extended."""
        if size > 1:
            self._insns.append(Insn(ALU32 | BYTE_SWAP | REGISTER, dst, imm=size * 8))

    def load(self, size: int, dst: int, base: int, offset: int) -> None:
        """dst = *(u8/u16/u32/u64 *)(base + offset)."""
        self._insns.append(Insn(LDX | MEMORY_MODE | MEMORY_SIZE[size], dst, base, offset))

    def store(self, size: int, base: int, offset: int, src: int) -> None:
        """*(u8/u16/u32/u64 *)(base + offset) = src."""
        self._insns.append(Insn(STX | MEMORY_MODE | MEMORY_SIZE[size], base, src, offset))

    def call(self, helper: int) -> None:
        """r0 = helper(r1..r5); r1-r5 are clobbered."""
        self._insns.append(Insn(CALL_HELPER, imm=helper))

    def jump(self, label: int) -> None:
        """Jump to ``label``."""
        self._add_jump(label, Insn(JMP | JA))

    def branch(self, operation: int, dst: int, immediate: int, label: int) -> None:
        """Jump to ``label`` if dst operation immediate, 64 bits."""
        self._add_jump(label, Insn(JMP | operation, dst, imm=immediate))

    def branch_register(self, operation: int, dst: int, src: int, label: int) -> None:
        """Jump to ``label`` if dst operation src, 64 bits."""
        self._add_jump(label, Insn(JMP | operation | REGISTER, dst, src))

    def branch32(self, operation: int, dst: int, immediate: int, label: int) -> None:
        """Jump to ``label`` if dst operation immediate, low 32 bits."""
        self._add_jump(label, Insn(JMP32 | operation, dst, imm=signed_immediate(immediate)))

    def branch32_register(self, operation: int, dst: int, src: int, label: int) -> None:
        """Jump to ``label`` if dst operation src, low 32 bits."""
        self._add_jump(label, Insn(JMP32 | operation | REGISTER, dst, src))

    def _add_jump(self, label: int, insn: Insn) -> None:
        self._jumps[len(self._insns)] = label
        self._insns.append(insn)

    def finish(self) -> list[Insn]:
        """Resolve the jumps and return the instructions; call it once.

        Raises:
            FilterError: a jump over more than 32,767 instructions.
        """
        program = self._insns
        for position, label in self._jumps.items():
            offset = self._labels.get(label, len(program)) - position - 1
            program[position] = program[position]._replace(off=check_offset(offset))
        return program


def check_offset(offset: int) -> int:
    """Return ``offset``.

    Raises:
        FilterError: it does not fit into the s16 offset of a jump.
    """
    if not -0x8000 <= offset <= 0x7FFF:
        raise FilterError(
            f"filter is too long: a jump over {offset} instructions (the limit is 32767)",
            "shorten the filter expression",
        )
    return offset
