"""Passes 2b and 2c: jump threading and merging of equal blocks.

``tcp and port 443`` tests for TCP, then for SCTP, TCP or UDP: on each path to the second test its
outcome is known.

Establishes: a path leads past a branch whose outcome is known on it, unless the block computes what
is read later; there are no two equal blocks, except in loops.
"""

from __future__ import annotations

from pypwru.filter.blocks import Block, Blocks, Flow, loop_heads, redirect
from pypwru.filter.cbpf import Kind
from pypwru.filter.liveness import Live, analyse
from pypwru.filter.shorten import JUMP
from pypwru.filter.values import State, Values, departures


def thread(flow: Flow) -> Flow:
    """Return ``flow`` with jumps threaded past the blocks whose outcome is known on the edge."""
    live = analyse(flow).entering
    heads = loop_heads(flow)
    values = Values(flow)
    arriving: dict[int, list[State]] = {start: [] for start in flow.blocks}
    if flow.blocks:
        arriving[flow.entry].append(values.start())
    blocks: Blocks = {}
    for start, block in flow.blocks.items():
        states = arriving.pop(start)
        if not states and start not in heads:
            continue
        state = values.unknown(start) if start in heads else values.meet(start, states)
        successors = []
        for successor, leaving in departures(values, state.copy(), block):
            if successor > start:
                successor = _destination(flow.blocks, live, values, successor, leaving)
            if successor in arriving:
                arriving[successor].append(leaving)
            successors.append(successor)
        blocks[start] = _leading_to(block, tuple(successors))
    return redirect(Flow(flow.entry, blocks), {})


def merge(flow: Flow) -> Flow:
    """Return ``flow`` with equal blocks merged into the last of them: jumps still go forward."""
    heads = loop_heads(flow)
    blocks: Blocks = {}
    known: dict[Block, int] = {}
    instead: dict[int, int] = {}
    for start, block in reversed(flow.blocks.items()):
        successors = tuple(instead.get(successor, successor) for successor in block.successors)
        blocks[start] = merged = _leading_to(block, successors)
        if not heads.intersection((start, *successors)):
            last = known.setdefault(merged._replace(start=0), start)
            if last != start:
                instead[start] = last
    return redirect(flow._replace(blocks=blocks), instead)


def _destination(
    blocks: Blocks, live: dict[int, Live], values: Values, start: int, leaving: State
) -> int:
    """Return the block or exit that an edge to ``start`` may lead to instead.

    Args:
        blocks: the program.
        live: name of a block -> what is live at its start.
        values: the program's values.
        start: the present target.
        leaving: the state on the edge.
    """
    found = start
    state = leaving.copy()
    while start >= 0:
        following = _next(values, state, blocks[start])
        if following is None or 0 <= following <= start:
            break
        start = following
        needed = live.get(start, ())
        if all(state.values[name] == leaving.values[name] for name in needed):
            found = start
    return found


def _next(values: Values, state: State, block: Block) -> int | None:
    """Return the only possible successor of ``block`` in ``state``, or None.

    ``state`` is changed to the one at the end of the block. There is none if the block may end the
    filter by a load out of bounds or a division by 0.
    """
    for instruction in block.instructions:
        if not values.is_safe(state, instruction):
            return None
        values.run(state, instruction)
    if len(block.successors) < 2:
        return next(iter(block.successors), None)
    outcome = values.outcome(state, values.condition(state, block.instructions[-1]))
    return None if outcome is None else block.successors[not outcome]


def _leading_to(block: Block, successors: tuple[int, ...]) -> Block:
    """Return ``block`` with other successors, and without its branch if both are the same."""
    code = block.instructions
    if code[-1].kind is Kind.BRANCH and len(set(successors)) == 1:
        code, successors = code[:-1] or (JUMP,), successors[:1]
    return Block(block.start, code, successors)
