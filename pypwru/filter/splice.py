"""Splice filters into a compiled BPF program, in place of marker calls.

In C a filter is a call of a helper number that no kernel has, the marker. The compiler follows the
calling convention of helpers: arguments in r1 to r5, the result in r0, r1-r5 clobbered, r6-r9
preserved. Instructions that replace the call keep the same contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pypwru.asm import ebpf
from pypwru.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pypwru.asm.ebpf import Insn

MARKER_L2 = 0x5EED1002
"""Helper number of ``u64 (*)(const void *data, u64 caplen, u64 len, u64 tag)`` for a packet that
begins with its Ethernet header; it is passed to the C compiler by -D."""
MARKER_L3 = 0x5EED1003
"""The same for a packet that begins with its IP header."""
MARKERS = {
    "L2": MARKER_L2,
    "L3": MARKER_L3,
    "TUNNEL_L2": 0x5EED1004,
    "TUNNEL_L3": 0x5EED1005,
    "SKB_EXPR": 0x5EED1006,
    "XDP_EXPR": 0x5EED1007,
    "SKB_MEMBERS": 0x5EED1008,
    "XDP_MEMBERS": 0x5EED1009,
}
"""Name of the C macro without ``MARKER_`` -> helper number."""

PSEUDO_CALL = 1  # BPF_PSEUDO_CALL: src of a call whose imm is relative to the next slot
PSEUDO_FUNC = 4  # BPF_PSEUDO_FUNC: src of an ld_imm64 whose imm is such an offset

_LONG_JUMP = ebpf.JMP32 | ebpf.JA  # gotol: its offset is the immediate
_JUMPS = (ebpf.JMP | ebpf.JA, _LONG_JUMP)
_StackRegisters = dict[int, int]
"""Register that holds a stack address -> its offset from r10."""


class Body(Protocol):
    """What can replace a marker call."""

    def body(self, stack_base: int, /) -> list[Insn]:
        """Return the instructions: arguments in r1 to r5, result in r0, r6-r9 preserved.

        Args:
            stack_base: the lowest offset from r10 that is in use, 0 or negative.

        Raises:
            FilterError: too little stack is left.
        """


def splice_all(program: Sequence[Insn] | bytes, bodies: Mapping[int, Body]) -> list[Insn]:
    """Return ``program`` with every marker call replaced by its body.

    No two bodies run at the same time, so they use the same part of the stack.

    Args:
        program: one program with all its subprograms, slots or bytes.
        bodies: marker -> what replaces it.

    Raises:
        FilterError: as :func:`splice`.
    """
    slots = ebpf.unpack(program) if isinstance(program, bytes) else list(program)
    base = lowest_stack_offset(slots)
    for marker, body in bodies.items():
        slots = splice(slots, marker, body, base)
    return slots


def splice(
    program: Sequence[Insn] | bytes,
    marker: int,
    body: Body,
    stack_base: int | None = None,
) -> list[Insn]:
    """Return ``program`` with every call of ``marker`` replaced by ``body``.

    Args:
        program: one program with all its subprograms, slots or bytes.
        marker: the helper number.
        body: what replaces it.
        stack_base: the lowest offset from r10 that ``program`` uses, 0 or negative; by default
            :func:`lowest_stack_offset` computes it.

    Returns:
        The slots, unchanged if there is no such call.

    Raises:
        FilterError: a jump does not fit into 16 bits any more, too little stack is left, or the
            use of the stack can't be determined.
    """
    slots = ebpf.unpack(program) if isinstance(program, bytes) else list(program)
    calls = [position for position in _insn_offsets(slots) if _is_marker(slots[position], marker)]
    if not calls:
        return slots
    base = lowest_stack_offset(slots) if stack_base is None else stack_base
    insns = body.body(base)
    new_positions = _new_positions(len(slots), set(calls), len(insns))
    spliced: list[Insn] = []
    is_second_slot = False  # the slot is the second of an ld_imm64: data, not an instruction
    for position, insn in enumerate(slots):
        if is_second_slot:
            spliced.append(insn)
        elif position in calls:
            spliced.extend(insns)
        else:
            spliced.append(_relocate_jump(insn, position, new_positions))
        is_second_slot = not is_second_slot and insn.code == ebpf.LD_IMM64
    return spliced


def lowest_stack_offset(program: Sequence[Insn]) -> int:
    """Return the lowest offset from r10 that ``program`` uses, 0 or negative.

    Considered are loads and stores through r10 and through copies of it with constants added, as
    compilers generate addresses of variables. At a jump target a register holds a stack address if
    it does so on any path; backward jumps are ignored.

    Raises:
        FilterError: a stack address is computed from a variable.
    """
    lowest = 0
    registers: _StackRegisters = {ebpf.R10: 0}
    pending: dict[int, _StackRegisters] = {}  # target of a forward jump -> the state on its edges
    falls_through = True
    for position in _insn_offsets(program):
        insn = program[position]
        if position in pending:
            arriving = pending.pop(position)
            registers = _merge_registers(arriving, registers) if falls_through else arriving
        falls_through = insn.code not in (*_JUMPS, ebpf.EXIT_PROGRAM)
        if ebpf.is_jump(insn):
            target = position + 1 + (insn.imm if insn.code == _LONG_JUMP else insn.off)
            if target > position:
                pending[target] = _merge_registers(pending.get(target, {}), registers)
            continue
        lowest = min(lowest, _memory_offset(insn, registers))
        kind, operation = insn.code & 7, insn.code & 0xF0
        if kind == ebpf.ALU64 and operation == ebpf.MOV and insn.code & ebpf.REGISTER:
            registers.pop(insn.dst, None)
            if insn.src in registers:
                registers[insn.dst] = registers[insn.src]
        elif kind == ebpf.ALU64 and operation in (ebpf.ADD, ebpf.SUB) and insn.dst in registers:
            if insn.code & ebpf.REGISTER:
                raise FilterError(
                    f"can't place the filter: instruction {position} computes a stack address "
                    "from a variable",
                    "give stack_base",
                )
            registers[insn.dst] += insn.imm if operation == ebpf.ADD else -insn.imm
            lowest = min(lowest, registers[insn.dst])
        elif kind in (ebpf.ALU32, ebpf.ALU64, ebpf.LDX, ebpf.LD_IMM64 & 7):
            registers.pop(insn.dst, None)
        elif insn.code == ebpf.CALL_HELPER:
            for register in range(6):
                registers.pop(register, None)
    return lowest


def _merge_registers(one: _StackRegisters, other: _StackRegisters) -> _StackRegisters:
    return {
        register: min(each.get(register, 0) for each in (one, other)) for register in one | other
    }


def _memory_offset(insn: Insn, registers: _StackRegisters) -> int:
    if insn.code & 7 == ebpf.LDX and insn.src in registers:
        return registers[insn.src] + insn.off
    if insn.code & 7 in (ebpf.ST, ebpf.STX) and insn.dst in registers:
        return registers[insn.dst] + insn.off
    return 0


def _is_marker(insn: Insn, marker: int) -> bool:
    return insn.code == ebpf.CALL_HELPER and insn.src == 0 and insn.imm == marker


def _insn_offsets(program: Sequence[Insn]) -> list[int]:
    """Return the positions of instructions: all slots but the second ones of an ld_imm64."""
    starts = []
    position = 0
    while position < len(program):
        starts.append(position)
        position += 2 if program[position].code == ebpf.LD_IMM64 else 1
    return starts


def _new_positions(length: int, calls: set[int], body_length: int) -> list[int]:
    """Return a table of old position -> new position, with an entry for the end of the program.

    Args:
        length: of the old program, in slots.
        calls: old positions of the marker calls.
        body_length: length of what replaces each, in slots.
    """
    table = []
    shift = 0
    for position in range(length + 1):
        table.append(position + shift)
        shift += body_length - 1 if position in calls else 0
    return table


def _relocate_jump(insn: Insn, position: int, new_positions: list[int]) -> Insn:
    """Return ``insn`` with its jump or call offset relocated.

    Args:
        insn: the instruction.
        position: its old position.
        new_positions: old position -> new position.
    """
    if ebpf.is_jump(insn) and insn.code != _LONG_JUMP:
        return insn._replace(
            off=ebpf.check_offset(_relocated_offset(insn.off, position, new_positions))
        )
    has_relative_imm = insn.code == _LONG_JUMP
    has_relative_imm |= insn.code == ebpf.CALL_HELPER and insn.src == PSEUDO_CALL
    has_relative_imm |= insn.code == ebpf.LD_IMM64 and insn.src == PSEUDO_FUNC
    return (
        insn._replace(imm=_relocated_offset(insn.imm, position, new_positions))
        if has_relative_imm
        else insn
    )


def _relocated_offset(offset: int, position: int, new_positions: list[int]) -> int:
    return new_positions[position + 1 + offset] - new_positions[position] - 1
