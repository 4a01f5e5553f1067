"""Pass 1: the control-flow graph of a program, of basic blocks.

Establishes: only reachable instructions; control enters a block at its first instruction and
leaves it at its last; an edge to a bare ``ret`` of a constant is one of the two exits instead of a
block, so that "match" and "no match" exist once each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.asm.cbpf import (
    RETURN_A,
    ClassicInstruction,
    ClassicProgram,
    InstructionKind,
    next_positions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MATCH, NO_MATCH = -1, -2
"""Successors that are not blocks but exits: the filter's two results."""

_TERMINATORS = (InstructionKind.JUMP, InstructionKind.BRANCH, InstructionKind.RETURN)


class Block(NamedTuple):
    """A basic block.

    Args:
        start: the position of its first instruction in the program, which is the block's name.
        instructions: one at least; the jump offsets of a branch are 0.
        successors: names of blocks, or exits: (if true, if false) of a branch, none after
            ``ret a``, otherwise one.
    """

    start: int
    instructions: tuple[ClassicInstruction, ...]
    successors: tuple[int, ...]

    @property
    def positions(self) -> range:
        """The program positions of the instructions."""
        return range(self.start, self.start + len(self.instructions))


Blocks = dict[int, Block]
"""Name -> block, in program order; the first is the entry. Empty if the entry is an exit."""


class CFG(NamedTuple):
    """A control-flow graph: its entry (a block's name or an exit) and its blocks."""

    entry: int
    blocks: Blocks

    def instructions(self) -> Iterator[ClassicInstruction]:
        """Yield every instruction, in program order."""
        for block in self.blocks.values():
            yield from block.instructions


def build_cfg(program: ClassicProgram) -> CFG:
    """Return the control-flow graph of ``program``, without unreachable blocks."""
    code = program.instructions
    leaders = {0}
    for position, instruction in enumerate(code):
        if instruction.kind in _TERMINATORS:
            leaders.update(next_positions(instruction, position))
    found: Blocks = {}
    entry = _exit_or_position(code[0], 0)
    pending = [entry]
    while pending:
        start = pending.pop()
        if start >= 0 and start not in found:
            found[start] = _build_block(code, start, leaders)
            pending.extend(found[start].successors)
    return CFG(entry, dict(sorted(found.items())))


def predecessors(blocks: Blocks) -> dict[int, list[int]]:
    """Return name of a block -> names of its predecessors."""
    found: dict[int, list[int]] = {start: [] for start in blocks}
    for block in blocks.values():
        for successor in block.successors:
            if successor in found:
                found[successor].append(block.start)
    return found


def loop_headers(cfg: CFG) -> frozenset[int]:
    """Return the loop headers: targets of backward jumps. All other jumps go forward."""
    blocks = cfg.blocks.values()
    return frozenset(s for block in blocks for s in block.successors if 0 <= s <= block.start)


def can_match(cfg: CFG) -> bool:
    """Return whether any path ends in a match, or in a ``ret a`` that may be one."""
    block_exits = (block.successors for block in cfg.blocks.values())
    return cfg.entry == MATCH or any(
        MATCH in successors or not successors for successors in block_exits
    )


def redirect_edges(cfg: CFG, targets: dict[int, int]) -> CFG:
    """Return ``cfg`` with edges redirected, without the blocks that become unreachable.

    Args:
        cfg: the graph.
        targets: name of a block -> the block or exit that edges to it lead to instead. The latter
            may itself be in ``targets``.
    """

    def final_target(start: int) -> int:
        while start in targets:
            start = targets[start]
        return start

    blocks: Blocks = {}
    entry = final_target(cfg.entry)
    pending = [entry]
    while pending:
        start = pending.pop()
        if start >= 0 and start not in blocks:
            block = cfg.blocks[start]
            successors = tuple(final_target(successor) for successor in block.successors)
            blocks[start] = block._replace(successors=successors)
            pending.extend(successors)
    return CFG(entry, dict(sorted(blocks.items())))


def reorder_blocks(cfg: CFG) -> CFG:
    """Return ``cfg`` in a new order and with new names, so that true branches fall through.

    The order is reverse postorder, so all but backward jumps still go forward.
    """
    postorder: list[int] = []
    visited: set[int] = set()
    pending = [(cfg.entry, False)]
    while pending:
        start, done = pending.pop()
        if done:
            postorder.append(start)
        elif start >= 0 and start not in visited:
            visited.add(start)
            pending.append((start, True))
            pending.extend((successor, False) for successor in cfg.blocks[start].successors)
    names, size = {MATCH: MATCH, NO_MATCH: NO_MATCH}, 0
    for start in reversed(postorder):
        names[start] = size
        size += len(cfg.blocks[start].instructions)
    blocks = {}
    for start in reversed(postorder):
        _, code, successors = cfg.blocks[start]
        blocks[names[start]] = Block(names[start], code, tuple(names[s] for s in successors))
    return CFG(names[cfg.entry], blocks)


def _build_block(code: tuple[ClassicInstruction, ...], start: int, leaders: set[int]) -> Block:
    end = start + 1
    while code[end - 1].kind not in _TERMINATORS and end not in leaders:
        end += 1
    last = code[end - 1]
    if last.kind is InstructionKind.RETURN:
        exits = () if last.code == RETURN_A else (_exit_or_position(last, end - 1),)
        return Block(start, code[start:end], exits)
    successors = tuple(
        _exit_or_position(code[target], target) for target in next_positions(last, end - 1)
    )
    return Block(start, (*code[start : end - 1], last._replace(jt=0, jf=0)), successors)


def _exit_or_position(instruction: ClassicInstruction, position: int) -> int:
    """Return the exit if ``instruction`` returns a constant, otherwise its position."""
    if instruction.kind is InstructionKind.RETURN and instruction.code != RETURN_A:
        return MATCH if instruction.k else NO_MATCH
    return position
