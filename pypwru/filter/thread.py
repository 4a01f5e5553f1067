"""Passes 2b and 2c: jump threading and merging of equal blocks.

``tcp and port 443`` tests for TCP, then for SCTP, TCP or UDP: on each path to the second test its
outcome is known.

Establishes: a path leads past a branch whose outcome is known on it, unless the block computes what
is read later; there are no two equal blocks, except in loops.
"""

from __future__ import annotations

from pypwru.asm.cbpf import InstructionKind
from pypwru.filter.cfg import CFG, Block, Blocks, loop_headers, redirect_edges
from pypwru.filter.liveness import LiveSet, analyse_liveness
from pypwru.filter.shorten import JUMP
from pypwru.filter.values import State, ValueNumbering, outgoing_states


def thread_jumps(cfg: CFG) -> CFG:
    """Return ``cfg`` with jumps threaded past the blocks whose outcome is known on the edge."""
    live = analyse_liveness(cfg).live_in
    headers = loop_headers(cfg)
    values = ValueNumbering(cfg)
    edge_states: dict[int, list[State]] = {start: [] for start in cfg.blocks}
    if cfg.blocks:
        edge_states[cfg.entry].append(values.entry_state())
    blocks: Blocks = {}
    for start, block in cfg.blocks.items():
        states = edge_states.pop(start)
        if not states and start not in headers:
            continue
        state = values.unknown_state(start) if start in headers else values.meet(start, states)
        successors = []
        for successor, edge_state in outgoing_states(values, state.copy(), block):
            if successor > start:
                successor = _destination(cfg.blocks, live, values, successor, edge_state)
            if successor in edge_states:
                edge_states[successor].append(edge_state)
            successors.append(successor)
        blocks[start] = _with_successors(block, tuple(successors))
    return redirect_edges(CFG(cfg.entry, blocks), {})


def merge_equal_blocks(cfg: CFG) -> CFG:
    """Return ``cfg`` with equal blocks merged into the last of them: jumps still go forward."""
    headers = loop_headers(cfg)
    blocks: Blocks = {}
    canonical: dict[Block, int] = {}
    replacements: dict[int, int] = {}
    for start, block in reversed(cfg.blocks.items()):
        successors = tuple(replacements.get(successor, successor) for successor in block.successors)
        blocks[start] = merged = _with_successors(block, successors)
        if not headers.intersection((start, *successors)):
            last = canonical.setdefault(merged._replace(start=0), start)
            if last != start:
                replacements[start] = last
    return redirect_edges(cfg._replace(blocks=blocks), replacements)


def _destination(
    blocks: Blocks, live: dict[int, LiveSet], values: ValueNumbering, start: int, edge_state: State
) -> int:
    """Return the block or exit that an edge to ``start`` may lead to instead.

    Args:
        blocks: the program.
        live: name of a block -> what is live at its start.
        values: the program's values.
        start: the present target.
        edge_state: the state on the edge.
    """
    found = start
    state = edge_state.copy()
    while start >= 0:
        following = _only_successor(values, state, blocks[start])
        if following is None or 0 <= following <= start:
            break
        start = following
        needed = live.get(start, ())
        if all(state.values[name] == edge_state.values[name] for name in needed):
            found = start
    return found


def _only_successor(values: ValueNumbering, state: State, block: Block) -> int | None:
    """Return the only possible successor of ``block`` in ``state``, or None.

    ``state`` is changed to the one at the end of the block. There is none if the block may end the
    filter by a load out of bounds or a division by 0.
    """
    for instruction in block.instructions:
        if not values.is_safe(state, instruction):
            return None
        values.apply(state, instruction)
    if len(block.successors) < 2:
        return next(iter(block.successors), None)
    outcome = values.known_outcome(state, values.branch_condition(state, block.instructions[-1]))
    return None if outcome is None else block.successors[not outcome]


def _with_successors(block: Block, successors: tuple[int, ...]) -> Block:
    """Return ``block`` with other successors, and without its branch if both are the same."""
    code = block.instructions
    if code[-1].kind is InstructionKind.BRANCH and len(set(successors)) == 1:
        code, successors = code[:-1] or (JUMP,), successors[:1]
    return Block(block.start, code, successors)
