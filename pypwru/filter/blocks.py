"""Pass 1: the control-flow graph of a program, of basic blocks.

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
"""Successors that are not blocks but exits: the filter's two results."""

_LEAVES = (Kind.JUMP, Kind.BRANCH, Kind.RETURN)


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


class Flow(NamedTuple):
    """A control-flow graph: its entry (a block's name or an exit) and its blocks."""

    entry: int
    blocks: Blocks

    def instructions(self) -> Iterator[ClassicInstruction]:
        """Yield every instruction, in program order."""
        for block in self.blocks.values():
            yield from block.instructions


def split(program: ClassicProgram) -> Flow:
    """Return the control-flow graph of ``program``, without unreachable blocks."""
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
    """Return name of a block -> names of its predecessors."""
    found: dict[int, list[int]] = {start: [] for start in blocks}
    for block in blocks.values():
        for successor in block.successors:
            if successor in found:
                found[successor].append(block.start)
    return found


def loop_heads(flow: Flow) -> frozenset[int]:
    """Return the loop headers: targets of backward jumps. All other jumps go forward."""
    blocks = flow.blocks.values()
    return frozenset(s for block in blocks for s in block.successors if 0 <= s <= block.start)


def can_match(flow: Flow) -> bool:
    """Return whether any path ends in a match, or in a ``ret a`` that may be one."""
    ends = (block.successors for block in flow.blocks.values())
    return flow.entry == MATCH or any(MATCH in successors or not successors for successors in ends)


def redirect(flow: Flow, targets: dict[int, int]) -> Flow:
    """Return ``flow`` with edges redirected, without the blocks that become unreachable.

    Args:
        flow: the graph.
        targets: name of a block -> the block or exit that edges to it lead to instead. The latter
            may itself be in ``targets``.
    """

    def followed(start: int) -> int:
        while start in targets:
            start = targets[start]
        return start

    blocks: Blocks = {}
    entry = followed(flow.entry)
    pending = [entry]
    while pending:
        start = pending.pop()
        if start >= 0 and start not in blocks:
            block = flow.blocks[start]
            successors = tuple(followed(successor) for successor in block.successors)
            blocks[start] = block._replace(successors=successors)
            pending.extend(successors)
    return Flow(entry, dict(sorted(blocks.items())))


def arrange(flow: Flow) -> Flow:
    """Return ``flow`` in a new order and with new names, so that true branches fall through.

    The order is reverse postorder, so all but backward jumps still go forward.
    """
    left: list[int] = []
    seen: set[int] = set()
    pending = [(flow.entry, False)]
    while pending:
        start, done = pending.pop()
        if done:
            left.append(start)
        elif start >= 0 and start not in seen:
            seen.add(start)
            pending.append((start, True))
            pending.extend((successor, False) for successor in flow.blocks[start].successors)
    names, size = {MATCH: MATCH, NO_MATCH: NO_MATCH}, 0
    for start in reversed(left):
        names[start] = size
        size += len(flow.blocks[start].instructions)
    blocks = {}
    for start in reversed(left):
        _, code, successors = flow.blocks[start]
        blocks[names[start]] = Block(names[start], code, tuple(names[s] for s in successors))
    return Flow(names[flow.entry], blocks)


def _block(code: tuple[ClassicInstruction, ...], start: int, leaders: set[int]) -> Block:
    end = start + 1
    while code[end - 1].kind not in _LEAVES and end not in leaders:
        end += 1
    last = code[end - 1]
    if last.kind is Kind.RETURN:
        exits = () if last.code == RETURN_A else (_exit(last, end - 1),)
        return Block(start, code[start:end], exits)
    successors = tuple(_exit(code[target], target) for target in targets(last, end - 1))
    return Block(start, (*code[start : end - 1], last._replace(jt=0, jf=0)), successors)


def _exit(instruction: ClassicInstruction, position: int) -> int:
    """Return the exit if ``instruction`` returns a constant, otherwise its position."""
    if instruction.kind is Kind.RETURN and instruction.code != RETURN_A:
        return MATCH if instruction.k else NO_MATCH
    return position
