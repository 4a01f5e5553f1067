"""Pass 1: a program as basic blocks.

Establishes: only reachable instructions; control enters a block at its first instruction and
leaves it at its last; an edge to a bare ``ret`` of a constant is one of the two exits instead of a
block, so that "match" and "no match" exist once each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.filter.cbpf import RETURN_A, ClassicInstruction, ClassicProgram, Kind, targets

if TYPE_CHECKING:
    from collections.abc import Iterator

MATCH, NO_MATCH = -1, -2
"""Successors that are no block: the filter's two answers."""

_LEAVES = (Kind.JUMP, Kind.BRANCH, Kind.RETURN)


class Block(NamedTuple):
    """A straight line of instructions.

    ``start`` is the position of the first in the program and the block's name. ``successors`` are
    names of blocks or exits: (if true, if false) of a branch, one otherwise, none after ``ret a``.
    """

    start: int
    instructions: tuple[ClassicInstruction, ...]
    successors: tuple[int, ...]

    @property
    def positions(self) -> range:
        """The program positions of the instructions."""
        return range(self.start, self.start + len(self.instructions))


Blocks = dict[int, Block]
"""By name, in program order; the first is the entry. Empty if the entry is an exit."""


class Flow(NamedTuple):
    """A program's entry (a block or an exit) and blocks."""

    entry: int
    blocks: Blocks

    def instructions(self) -> Iterator[ClassicInstruction]:
        """Every instruction, in program order."""
        for block in self.blocks.values():
            yield from block.instructions


def split(program: ClassicProgram) -> Flow:
    """The blocks of ``program`` that can be reached."""
    code = program.instructions
    leaders = {0}
    for position, instruction in enumerate(code):
        if instruction.kind in _LEAVES:
            leaders.update(targets(instruction, position))
    found: Blocks = {}
    entry = _exit(code[0], 0)
    pending = [entry]
    while pending:
        start = pending.pop()
        if start >= 0 and start not in found:
            found[start] = _block(code, start, leaders)
            pending.extend(found[start].successors)
    return Flow(entry, dict(sorted(found.items())))


def predecessors(blocks: Blocks) -> dict[int, list[int]]:
    """Name of a block -> names of the blocks that go to it."""
    found: dict[int, list[int]] = {start: [] for start in blocks}
    for block in blocks.values():
        for successor in block.successors:
            if successor in found:
                found[successor].append(block.start)
    return found


def redirect(flow: Flow, exits: dict[int, int]) -> Flow:
    """``flow`` with the blocks in ``exits`` replaced by the exit each stands for."""
    blocks = {
        start: block._replace(successors=tuple(exits.get(s, s) for s in block.successors))
        for start, block in flow.blocks.items()
        if start not in exits
    }
    entry = exits.get(flow.entry, flow.entry)
    reached: set[int] = set()
    pending = [entry]
    while pending:
        start = pending.pop()
        if start >= 0 and start not in reached:
            reached.add(start)
            pending.extend(blocks[start].successors)
    return Flow(entry, {start: block for start, block in blocks.items() if start in reached})


def _block(code: tuple[ClassicInstruction, ...], start: int, leaders: set[int]) -> Block:
    end = start + 1
    while code[end - 1].kind not in _LEAVES and end not in leaders:
        end += 1
    last = code[end - 1]
    if last.kind is Kind.RETURN:
        exits = () if last.code == RETURN_A else (_exit(last, end - 1),)
        return Block(start, code[start:end], exits)
    successors = tuple(_exit(code[target], target) for target in targets(last, end - 1))
    return Block(start, code[start:end], successors)


def _exit(instruction: ClassicInstruction, position: int) -> int:
    """The exit that ``instruction`` is by itself, else its position."""
    if instruction.kind is Kind.RETURN and instruction.code != RETURN_A:
        return MATCH if instruction.k else NO_MATCH
    return position
