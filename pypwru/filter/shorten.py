"""Passes 2a and 2e: constant folding, redundancy elimination and dead code elimination.

libpcap's code generator emits every primitive separately: it loads again what was loaded, and moves
the numbers of ``ip[8] < 65`` through scratch memory. libpcap's optimizer is not used, since it has
bugs (libpcap issues 434, 437, 945, 1513, 1699) and takes cubic time.

A load out of bounds ends the filter, and so does a division by zero. An instruction that may do so
is not removed even if its result is not read.

Establishes: no instruction computes what its register already holds, or what is not read; operands
that are the same for every packet are immediate. ``fold`` works on each block alone: blocks still
load all that they need, so jump threading can bypass any of them. ``reuse`` works across blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm import ebpf
from pypwru.asm.cbpf import CHECK_FLAG, MAX_OFFSET, ClassicInstruction, InstructionKind
from pypwru.filter.cfg import CFG, Block, loop_headers, redirect_edges
from pypwru.filter.liveness import LiveSet, analyse_liveness, locations_read, locations_written
from pypwru.filter.terms import PACKET
from pypwru.filter.values import State, ValueNumbering, entry_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JUMP = ClassicInstruction(0x05, 0, 0, 0)
_LOAD_IMMEDIATE = {"A": 0x00, "X": 0x01}
_MOVE = {"A": 0x87, "X": 0x07}
_OTHER_REGISTER = {"A": "X", "X": "A"}
_USES_X = 0x08
_MODE = 0xE0  # BPF_MODE
_ABSOLUTE = 0x20
_LOAD_BYTE = 0x30
_JSET, _JEQ = 0x45, 0x15
_INDIRECT = (InstructionKind.LOAD_INDIRECT, InstructionKind.CHECK_INDIRECT)
_TERMINATORS = (InstructionKind.JUMP, InstructionKind.BRANCH, InstructionKind.RETURN)


def fold(cfg: CFG) -> CFG:
    """Return ``cfg`` with the constants of each block folded, and without dead code."""
    values = ValueNumbering(cfg)

    def states(cfg: CFG) -> dict[int, State]:
        block_states = {start: values.unknown_state(start) for start in cfg.blocks}
        if cfg.entry in block_states.keys() - loop_headers(cfg):
            block_states[cfg.entry] = values.entry_state()
        return block_states

    return _rewrite_to_fixpoint(cfg, values, states, is_local=True)


def reuse(cfg: CFG) -> CFG:
    """Return ``cfg`` without instructions whose results earlier blocks have computed."""
    values = ValueNumbering(cfg)
    cfg = _rewrite_to_fixpoint(cfg, values, lambda cfg: entry_states(cfg, values), is_local=False)
    empty_blocks = {
        start: block.successors[0]
        for start, block in cfg.blocks.items()
        if block.instructions == (JUMP,) and not 0 <= block.successors[0] <= start
    }
    return redirect_edges(cfg, empty_blocks)


def _rewrite_to_fixpoint(
    cfg: CFG, values: ValueNumbering, states: Callable[[CFG], dict[int, State]], is_local: bool
) -> CFG:
    while True:
        rewritten = _remove_dead_code(*_rewrite(cfg, values, states(cfg), is_local))
        if rewritten == cfg:
            return cfg
        cfg = rewritten


def _rewrite(
    cfg: CFG, values: ValueNumbering, states: dict[int, State], is_local: bool
) -> tuple[CFG, set[int]]:
    """Replace each instruction by a cheaper one, or by none.

    All locations keep their values, except X if ``is_local``: a constant that is added to X is
    added to the offsets of the loads instead. Otherwise the states of later blocks rely on that X.

    Args:
        cfg: the program.
        values: its values.
        states: what holds at the start of each block.
        is_local: each block is rewritten by itself.

    Returns:
        The program, and the positions of instructions that may end the filter.
    """
    live_out = analyse_liveness(cfg).live_out if is_local else {}
    blocks, ending_positions = {}, set[int]()
    for start, block in cfg.blocks.items():
        state = states[start].copy()
        code: list[ClassicInstruction] = []
        addend = 0  # added to the offsets of loads instead of to X
        for number, instruction in enumerate(block.instructions):
            if addend and instruction.kind in _INDIRECT:
                instruction = instruction._replace(k=instruction.k + addend)
            elif "X" in instruction.opcode.writes:
                later = block.instructions[number + 1 :]
                addend = _x_addend(values, state, instruction) if is_local else 0
                if addend and _only_loads_use_x(later, addend, live_out[start]):
                    continue
                addend = 0
            if not values.is_safe(state, instruction):
                ending_positions.add(start + len(code))
            replacement = _find_replacement(values, state, instruction)
            values.apply(state, instruction)
            if replacement is not None:
                code.append(replacement)
        blocks[start] = block._replace(instructions=tuple(code) or (JUMP,))
    return CFG(cfg.entry, blocks), ending_positions


def _x_addend(values: ValueNumbering, state: State, instruction: ClassicInstruction) -> int:
    """Return the constant that ``instruction`` adds to X, if the sum can't wrap; otherwise 0."""
    if instruction.kind is not InstructionKind.MOVE:
        return 0
    base, offset = values.split_addend(state.values["A"])
    return offset if base == state.values["X"] else 0


def _only_loads_use_x(later: Sequence[ClassicInstruction], addend: int, live_out: LiveSet) -> bool:
    """Return whether X is only the base of loads until it is written again.

    Args:
        later: the rest of the block.
        addend: would be added to the offset of these loads.
        live_out: what is live at the end of the block.
    """
    for instruction in later:
        if "X" in instruction.opcode.reads and (
            instruction.kind not in _INDIRECT or instruction.k + addend > MAX_OFFSET
        ):
            return False
        if "X" in instruction.opcode.writes:
            return True
    return "X" not in live_out


def _find_replacement(
    values: ValueNumbering, state: State, instruction: ClassicInstruction
) -> ClassicInstruction | None:
    """Return the cheapest equivalent of ``instruction`` in ``state``; None if it has no effect."""
    kind, register = instruction.kind, instruction.opcode.writes
    if kind is InstructionKind.STORE_SCRATCH:
        is_held = state.values[f"M{instruction.k}"] == state.values[instruction.opcode.reads]
        return None if is_held else instruction
    if register:
        value = values.result_value(state, instruction)
        is_safe = values.is_safe(state, instruction)
        if is_safe and state.values[register] == value:
            return None
        number = values.constant_of(value)
        if is_safe and number is not None:
            return ClassicInstruction(_LOAD_IMMEDIATE[register], 0, 0, number)
        if (
            kind is InstructionKind.LOAD_SCRATCH
            and state.values[_OTHER_REGISTER[register]] == value
        ):
            return ClassicInstruction(_MOVE[register], 0, 0, 0)
    elif instruction.opcode.size and values.is_safe(state, instruction):
        return None
    if kind in _INDIRECT:
        base, offset = values.load_address(state, instruction)
        code = instruction.code & ~_MODE | _ABSOLUTE
        return ClassicInstruction(code, 0, 0, offset) if base == PACKET else instruction
    if kind in (InstructionKind.ALU, InstructionKind.BRANCH) and instruction.uses_x:
        number = values.constant_of(state.values["X"])
        if number is not None and (
            kind is InstructionKind.BRANCH or values.is_safe(state, instruction)
        ):
            return ClassicInstruction(instruction.code & ~_USES_X, 0, 0, number)
    return instruction


def _remove_dead_code(cfg: CFG, ending_positions: set[int]) -> CFG:
    """Return ``cfg`` without dead code.

    Args:
        cfg: the program.
        ending_positions: positions of instructions that may end the filter; a bounds check of them
            remains.
    """
    live_out = analyse_liveness(cfg).live_out
    blocks = {}
    for start, block in cfg.blocks.items():
        live = live_out[start]
        code: list[ClassicInstruction] = []
        for position, instruction in zip(
            reversed(block.positions), reversed(block.instructions), strict=True
        ):
            written = locations_written(instruction)
            if position in ending_positions and not written & live:
                instruction = _make_check(instruction)
            elif instruction.kind not in _TERMINATORS and not written & live:
                continue
            code.append(instruction)
            live = (live - written) | locations_read(instruction)
        code.reverse()
        remaining = block._replace(instructions=tuple(code) or (JUMP,))
        blocks[start] = remaining if "A" in live_out[start] else _merge_alu_into_branch(remaining)
    return CFG(cfg.entry, blocks)


def _make_check(instruction: ClassicInstruction) -> ClassicInstruction:
    """Return the check that replaces a load whose result is not read; a division stays."""
    if instruction.kind is InstructionKind.LOAD_HEADER_LENGTH:
        return ClassicInstruction(_LOAD_BYTE | CHECK_FLAG, 0, 0, instruction.k)
    return (
        instruction._replace(code=instruction.code | CHECK_FLAG)
        if instruction.opcode.size
        else instruction
    )


def _merge_alu_into_branch(block: Block) -> Block:
    """Return ``block`` with its last ALU instruction merged into the branch, if possible.

    A must not be live at the end of the block.
    """
    if len(block.instructions) < 2:
        return block
    *first, alu, branch = block.instructions
    if (
        branch.kind is not InstructionKind.BRANCH
        or branch.uses_x
        or alu.kind is not InstructionKind.ALU
    ):
        return block
    operation, number = alu.operation, alu.k
    if operation == ebpf.AND and not alu.uses_x:
        if branch.code == _JSET:
            return block._replace(instructions=(*first, branch._replace(k=branch.k & number)))
        if branch.code == _JEQ and branch.k == 0:
            swapped = (block.successors[1], block.successors[0])
            return Block(block.start, (*first, ClassicInstruction(_JSET, 0, 0, number)), swapped)
    if branch.code != _JEQ:
        return block
    if operation == ebpf.SUB and alu.uses_x and branch.k == 0:
        equal = ClassicInstruction(_JEQ | _USES_X, 0, 0, 0)
        return block._replace(instructions=(*first, equal))
    if operation in (ebpf.ADD, ebpf.SUB) and not alu.uses_x:
        sign = -1 if operation == ebpf.ADD else 1
        compared = branch.k + sign * number & 0xFFFFFFFF
        return block._replace(instructions=(*first, branch._replace(k=compared)))
    return block
