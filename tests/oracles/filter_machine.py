"""An eBPF interpreter that refuses what the verifier would: the oracle of filters without a kernel.

It models what a filter may use: ten registers, 512 bytes of stack, helper 113 over the memory of
one packet. Registers that were never set, or that a call has clobbered, have no value; neither has
stack that was not written. What lies behind the packet can be read by the helper, and holds random
bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

from pypwru.asm import ebpf
from pypwru.asm.ebpf import Insn
from pypwru.expr.stack import PROBE_READ_KERNEL_STR

PACKET = 0xFFFF888000001000
STACK_TOP = 0xFFFFC90000002000
STACK_SIZE = 512
RUBBISH = 320
"""Bytes behind a packet that can be read: an skb_shared_info."""
MASK = (1 << 64) - 1

_JUMPS: dict[int, Callable[[int, int], bool]] = {
    ebpf.JEQ: lambda a, b: a == b,
    ebpf.JNE: lambda a, b: a != b,
    ebpf.JGT: lambda a, b: a > b,
    ebpf.JGE: lambda a, b: a >= b,
    ebpf.JLT: lambda a, b: a < b,
    ebpf.JLE: lambda a, b: a <= b,
    ebpf.JSET: lambda a, b: bool(a & b),
}
_SIGNED_JUMPS = {
    ebpf.JSGT: ebpf.JGT,
    ebpf.JSGE: ebpf.JGE,
    ebpf.JSLT: ebpf.JLT,
    ebpf.JSLE: ebpf.JLE,
}
_ALU: dict[int, Callable[[int, int], int]] = {
    ebpf.ADD: lambda a, b: a + b,
    ebpf.SUB: lambda a, b: a - b,
    ebpf.MUL: lambda a, b: a * b,
    ebpf.DIV: lambda a, b: a // b if b else 0,
    ebpf.MOD: lambda a, b: a % b if b else a,
    ebpf.AND: lambda a, b: a & b,
    ebpf.OR: lambda a, b: a | b,
    ebpf.XOR: lambda a, b: a ^ b,
    ebpf.LSH: lambda a, b: a << b,
    ebpf.RSH: lambda a, b: a >> b,
    ebpf.MOV: lambda a, b: b,
}


class Refused(Exception):
    """The program does what the verifier forbids."""


class Machine:
    """One packet, and programs run on it.

    Args:
        packet: the bytes that can be read without going behind the packet.
        length: the third argument.
        tag: the fourth.
    """

    def __init__(self, packet: bytes, length: int | None = None, tag: int = 0) -> None:
        rubbish = random.Random(len(packet)).randbytes(RUBBISH)
        self.memory = packet + rubbish
        self.arguments = (PACKET, len(packet), len(packet) if length is None else length, tag)
        self.steps = 0
        self.calls = 0

    def run(self, program: Sequence[Insn]) -> int:
        """Return r0 when control leaves ``program`` at its end. Raises Refused."""
        self.registers: list[int | None] = [None] * 11
        self.registers[1:5] = self.arguments
        self.registers[10] = STACK_TOP
        self.stack: list[int | None] = [None] * STACK_SIZE
        position = 0
        while position < len(program):
            self.steps += 1
            if program[position].code == ebpf.LD_IMM64:
                low, high = (insn.imm & 0xFFFFFFFF for insn in program[position : position + 2])
                self._set(program[position].dst, high << 32 | low)
                position += 2
                continue
            position += 1 + self._step(program[position])
            if not 0 <= position <= len(program):
                raise Refused(f"jump to {position}")
        return self._value(0)

    def matches(self, program: Sequence[Insn]) -> bool:
        """Return a filter's verdict, the lower half of r0; the upper one: are bytes missing."""
        return bool(self.run(program) & 0xFFFFFFFF)

    def _value(self, register: int) -> int:
        value = self.registers[register]
        if value is None:
            raise Refused(f"R{register} !read_ok")
        return value

    def _set(self, register: int, value: int) -> None:
        if register == 10:
            raise Refused("frame pointer is read only")
        if 6 <= register <= 9:
            raise Refused(f"R{register} belongs to the host program")
        self.registers[register] = value & MASK

    def _step(self, insn: Insn) -> int:
        """Execute ``insn``; return how far to jump after it."""
        kind = insn.code & 7
        if kind in (ebpf.JMP, ebpf.JMP32):
            return self._jump(insn)
        if kind == ebpf.LDX:
            self._set(insn.dst, self._load(self._value(insn.src) + insn.off, _size(insn)))
        elif kind == ebpf.STX:
            address = self._value(insn.dst) + insn.off
            data = self._value(insn.src).to_bytes(8, "little")[: _size(insn)]
            self._store(address, data, aligned=True)
        elif kind in (ebpf.ALU32, ebpf.ALU64):
            self._alu(insn, 32 if kind == ebpf.ALU32 else 64)
        else:
            raise Refused(f"unknown opcode {insn.code:#x}")
        return 0

    def _alu(self, insn: Insn, bits: int) -> None:
        operation = insn.code & 0xF0
        mask = (1 << bits) - 1
        if operation == ebpf.BYTE_SWAP:
            data = self._value(insn.dst).to_bytes(8, "little")[: insn.imm // 8]
            order: Literal["big", "little"] = "big" if insn.code & ebpf.REGISTER else "little"
            self._set(insn.dst, int.from_bytes(data, order))
            return
        if operation == ebpf.NEG:
            self._set(insn.dst, -self._value(insn.dst) & mask)
            return
        other = self._value(insn.src) if insn.code & ebpf.REGISTER else insn.imm
        if operation == ebpf.ARSH:
            old = self._value(insn.dst) & mask
            self._set(insn.dst, (old - (old >> bits - 1 << bits)) >> (other & bits - 1) & mask)
            return
        old = 0 if operation == ebpf.MOV else self._value(insn.dst) & mask
        other &= bits - 1 if operation in (ebpf.LSH, ebpf.RSH) else mask
        self._set(insn.dst, _ALU[operation](old, other) & mask)

    def _jump(self, insn: Insn) -> int:
        operation = insn.code & 0xF0
        if operation == ebpf.CALL:
            self._call(insn)
            return 0
        if operation == ebpf.JA:
            return insn.off
        mask = 0xFFFFFFFF if insn.code & 7 == ebpf.JMP32 else MASK
        other = self._value(insn.src) if insn.code & ebpf.REGISTER else insn.imm
        flip = 0
        if operation in _SIGNED_JUMPS:
            operation, flip = _SIGNED_JUMPS[operation], mask // 2 + 1
        first, second = self._value(insn.dst) & mask ^ flip, other & mask ^ flip
        return insn.off if _JUMPS[operation](first, second) else 0

    def _call(self, insn: Insn) -> None:
        if insn.imm not in (ebpf.PROBE_READ_KERNEL, PROBE_READ_KERNEL_STR) or insn.src:
            raise Refused(f"unknown func {insn.imm}")
        self.calls += 1
        to, size, source = (self._value(register) for register in (1, 2, 3))
        if insn.imm == PROBE_READ_KERNEL_STR:
            self._string(to, size, source)
            return
        data = self._memory(source, size)
        self._store(to, data or bytes(size), aligned=False)
        self.registers[0] = 0 if data is not None else -14 & MASK
        self.registers[1:6] = [None] * 5

    def _string(self, to: int, size: int, source: int) -> None:
        """Read up to ``size`` bytes with the NUL; bytes behind it are undefined."""
        found = b""
        while not found.endswith(b"\0") and len(found) < size:
            one = self._memory(source + len(found), 1)
            if one is None:
                found = b""
                break
            found += one
        self._store(to, (found[:-1] + b"\0").ljust(size, b"\xa5"), aligned=False)
        self.registers[0] = len(found) or -14 & MASK
        self.registers[1:6] = [None] * 5

    def _memory(self, address: int, size: int) -> bytes | None:
        """Return what the helper reads: packet memory, or the stack as far as it was written."""
        if STACK_TOP - STACK_SIZE <= address < STACK_TOP:
            return bytes(self._cells(address, size))
        start = address - PACKET
        return self.memory[start : start + size] if 0 <= start <= len(self.memory) - size else None

    def _cells(self, address: int, size: int) -> list[int]:
        start = address - STACK_TOP + STACK_SIZE
        cells = self.stack[start : start + size] if start >= 0 else []
        found = [cell for cell in cells if cell is not None]
        if len(found) != size:
            raise Refused(f"invalid read from stack off {start - STACK_SIZE} size {size}")
        return found

    def _load(self, address: int, size: int) -> int:
        if address % size:
            raise Refused(f"misaligned stack access off {address - STACK_TOP} size {size}")
        return int.from_bytes(bytes(self._cells(address, size)), "little")

    def _store(self, address: int, data: bytes, aligned: bool) -> None:
        start = address - STACK_TOP + STACK_SIZE
        if start < 0 or start + len(data) > STACK_SIZE or (aligned and address % len(data)):
            raise Refused(f"invalid write to stack off {start - STACK_SIZE} size {len(data)}")
        self.stack[start : start + len(data)] = data


def _size(insn: Insn) -> int:
    return ebpf.SIZE_OF_MEMORY[insn.code & 0x18]
