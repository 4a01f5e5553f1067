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

from pypwru.filter import ebpf
from pypwru.filter.blocks import Block, Flow, loop_heads, redirect
from pypwru.filter.cbpf import CHECK, MAX_OFFSET, ClassicInstruction, Kind
from pypwru.filter.liveness import Live, analyse, reads, writes
from pypwru.filter.terms import PACKET
from pypwru.filter.values import State, Values, states_at_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JUMP = ClassicInstruction(0x05, 0, 0, 0)
_IMMEDIATE = {"A": 0x00, "X": 0x01}
_MOVE = {"A": 0x87, "X": 0x07}
_OTHER = {"A": "X", "X": "A"}
_USES_X = 0x08
_MODE = 0xE0  # BPF_MODE
_ABSOLUTE = 0x20
_LOAD_BYTE = 0x30
_JSET, _JEQ = 0x45, 0x15
_INDIRECT = (Kind.LOAD_INDIRECT, Kind.CHECK_INDIRECT)
_LEAVES = (Kind.JUMP, Kind.BRANCH, Kind.RETURN)


def fold(flow: Flow) -> Flow:
    """Return ``flow`` with the constants of each block folded, and without dead code."""
    values = Values(flow)

    def states(flow: Flow) -> dict[int, State]:
        known = {start: values.unknown(start) for start in flow.blocks}
        if flow.entry in known.keys() - loop_heads(flow):
            known[flow.entry] = values.start()
        return known

    return _until_nothing_changes(flow, values, states, alone=True)


def reuse(flow: Flow) -> Flow:
    """Return ``flow`` without instructions whose results earlier blocks have computed."""
    values = Values(flow)
    flow = _until_nothing_changes(
        flow, values, lambda flow: states_at_entries(flow, values), alone=False
    )
    idle = {
        start: block.successors[0]
        for start, block in flow.blocks.items()
        if block.instructions == (JUMP,) and not 0 <= block.successors[0] <= start
    }
    return redirect(flow, idle)


def _until_nothing_changes(
    flow: Flow, values: Values, states: Callable[[Flow], dict[int, State]], alone: bool
) -> Flow:
    while True:
        shorter = _drop_dead(*_rewrite(flow, values, states(flow), alone))
        if shorter == flow:
            return flow
        flow = shorter


def _rewrite(
    flow: Flow, values: Values, states: dict[int, State], alone: bool
) -> tuple[Flow, set[int]]:
    """Replace each instruction by a cheaper one, or by none.

    All locations keep their values, except X if ``alone``: a constant that is added to X is added
    to the offsets of the loads instead. Otherwise the states of later blocks rely on that X.

    Args:
        flow: the program.
        values: its values.
        states: what holds at the start of each block.
        alone: each block is rewritten by itself.

    Returns:
        The program, and the positions of instructions that may end the filter.
    """
    leaving = analyse(flow).leaving if alone else {}
    blocks, ends = {}, set[int]()
    for start, block in flow.blocks.items():
        state = states[start].copy()
        code: list[ClassicInstruction] = []
        added = 0  # added to the offsets of loads instead of to X
        for number, instruction in enumerate(block.instructions):
            if added and instruction.kind in _INDIRECT:
                instruction = instruction._replace(k=instruction.k + added)
            elif "X" in instruction.form.writes:
                later = block.instructions[number + 1 :]
                added = _offset(values, state, instruction) if alone else 0
                if added and _only_loads_use_x(later, added, leaving[start]):
                    continue
                added = 0
            if not values.is_safe(state, instruction):
                ends.add(start + len(code))
            shorter = _shorter(values, state, instruction)
            values.run(state, instruction)
            if shorter is not None:
                code.append(shorter)
        blocks[start] = block._replace(instructions=tuple(code) or (JUMP,))
    return Flow(flow.entry, blocks), ends


def _offset(values: Values, state: State, instruction: ClassicInstruction) -> int:
    """Return the constant that ``instruction`` adds to X, if the sum can't wrap; otherwise 0."""
    if instruction.kind is not Kind.MOVE:
        return 0
    base, offset = values.split(state.values["A"])
    return offset if base == state.values["X"] else 0


def _only_loads_use_x(later: Sequence[ClassicInstruction], added: int, leaving: Live) -> bool:
    """Return whether X is only the base of loads until it is written again.

    Args:
        later: the rest of the block.
        added: would be added to the offset of these loads.
        leaving: what is live at the end of the block.
    """
    for instruction in later:
        if "X" in instruction.form.reads and (
            instruction.kind not in _INDIRECT or instruction.k + added > MAX_OFFSET
        ):
            return False
        if "X" in instruction.form.writes:
            return True
    return "X" not in leaving


def _shorter(
    values: Values, state: State, instruction: ClassicInstruction
) -> ClassicInstruction | None:
    """Return the cheapest equivalent of ``instruction`` in ``state``; None if it has no effect."""
    kind, register = instruction.kind, instruction.form.writes
    if kind is Kind.STORE_SCRATCH:
        held = state.values[f"M{instruction.k}"] == state.values[instruction.form.reads]
        return None if held else instruction
    if register:
        value = values.result(state, instruction)
        is_safe = values.is_safe(state, instruction)
        if is_safe and state.values[register] == value:
            return None
        number = values.constant_of(value)
        if is_safe and number is not None:
            return ClassicInstruction(_IMMEDIATE[register], 0, 0, number)
        if kind is Kind.LOAD_SCRATCH and state.values[_OTHER[register]] == value:
            return ClassicInstruction(_MOVE[register], 0, 0, 0)
    elif instruction.form.size and values.is_safe(state, instruction):
        return None
    if kind in _INDIRECT:
        base, offset = values.address(state, instruction)
        code = instruction.code & ~_MODE | _ABSOLUTE
        return ClassicInstruction(code, 0, 0, offset) if base == PACKET else instruction
    if kind in (Kind.ALU, Kind.BRANCH) and instruction.uses_x:
        number = values.constant_of(state.values["X"])
        if number is not None and (kind is Kind.BRANCH or values.is_safe(state, instruction)):
            return ClassicInstruction(instruction.code & ~_USES_X, 0, 0, number)
    return instruction


def _drop_dead(flow: Flow, ends: set[int]) -> Flow:
    """Return ``flow`` without dead code.

    Args:
        flow: the program.
        ends: positions of instructions that may end the filter; a bounds check of them remains.
    """
    leaving = analyse(flow).leaving
    blocks = {}
    for start, block in flow.blocks.items():
        live = leaving[start]
        code: list[ClassicInstruction] = []
        for position, instruction in zip(
            reversed(block.positions), reversed(block.instructions), strict=True
        ):
            written = writes(instruction)
            if position in ends and not written & live:
                instruction = _check(instruction)
            elif instruction.kind not in _LEAVES and not written & live:
                continue
            code.append(instruction)
            live = (live - written) | reads(instruction)
        code.reverse()
        kept = block._replace(instructions=tuple(code) or (JUMP,))
        blocks[start] = kept if "A" in leaving[start] else _shorter_branch(kept)
    return Flow(flow.entry, blocks)


def _check(instruction: ClassicInstruction) -> ClassicInstruction:
    """Return the check that replaces a load whose result is not read; a division stays."""
    if instruction.kind is Kind.LOAD_HEADER_LENGTH:
        return ClassicInstruction(_LOAD_BYTE | CHECK, 0, 0, instruction.k)
    return (
        instruction._replace(code=instruction.code | CHECK)
        if instruction.form.size
        else instruction
    )


def _shorter_branch(block: Block) -> Block:
    """Return ``block`` with its last ALU instruction merged into the branch, if possible.

    A must not be live at the end of the block.
    """
    if len(block.instructions) < 2:
        return block
    *first, before, branch = block.instructions
    if branch.kind is not Kind.BRANCH or branch.uses_x or before.kind is not Kind.ALU:
        return block
    operation, number = before.operation, before.k
    if operation == ebpf.AND and not before.uses_x:
        if branch.code == _JSET:
            return block._replace(instructions=(*first, branch._replace(k=branch.k & number)))
        if branch.code == _JEQ and branch.k == 0:
            turned = (block.successors[1], block.successors[0])
            return Block(block.start, (*first, ClassicInstruction(_JSET, 0, 0, number)), turned)
    if branch.code != _JEQ:
        return block
    if operation == ebpf.SUB and before.uses_x and branch.k == 0:
        equal = ClassicInstruction(_JEQ | _USES_X, 0, 0, 0)
        return block._replace(instructions=(*first, equal))
    if operation in (ebpf.ADD, ebpf.SUB) and not before.uses_x:
        sign = -1 if operation == ebpf.ADD else 1
        compared = branch.k + sign * number & 0xFFFFFFFF
        return block._replace(instructions=(*first, branch._replace(k=compared)))
    return block
