"""Pass 3: bounds checks of loads at constant offsets.

A load out of bounds makes the whole filter answer "no match" (libpcap, ``bpf_filter.c``). Nothing
in classic BPF has a side effect, so that answer may be given as soon as it is certain. A block
*needs* n bytes if every way from it to a match loads up to byte n; with fewer the answer is known.

Establishes: a path enters a block only with the bytes it needs, proved by a guard at the start of
this block or an earlier one; a block without any way to a match is gone. Usually one guard, at the
entry, is all that a filter has. The equations are those of cbpfc's ``addAbsolutePacketGuards``.
"""

from __future__ import annotations

from pypwru.filter.blocks import MATCH, NO_MATCH, Block, Blocks, Flow, predecessors, redirect
from pypwru.filter.cbpf import MAX_OFFSET, Kind

NEVER = 1 << 40
"""A need that no packet satisfies."""

CONSTANT_LOADS = (Kind.LOAD_ABSOLUTE, Kind.LOAD_HEADER_LENGTH)
CHECKED_HERE = (*CONSTANT_LOADS, Kind.CHECK_ABSOLUTE)


def drop_hopeless(flow: Flow) -> Flow:
    """``flow`` without the blocks from which no match is possible."""
    need = needs(flow.blocks)
    return redirect(flow, {start: NO_MATCH for start, n in need.items() if n >= NEVER})


def needs(blocks: Blocks) -> dict[int, int]:
    """Name -> bytes without which no path from the block matches.

    The greatest solution: a loop that nothing leaves never matches.
    """
    need = dict.fromkeys(blocks, NEVER) | {MATCH: 0, NO_MATCH: NEVER}
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks.values()):
            best = min((need[s] for s in block.successors), default=0)
            value = max(_loads(block), best)
            changed |= value != need[block.start]
            need[block.start] = value
    return {start: need[start] for start in blocks}


def place_guards(flow: Flow) -> dict[int, int]:
    """Name -> bytes to check for when the block begins; blocks without a check are absent."""
    need = needs(flow.blocks)
    before = predecessors(flow.blocks)
    proved = dict.fromkeys(flow.blocks, NEVER)  # on arrival, by every path
    changed = True
    while changed:
        changed = False
        for start in flow.blocks:
            known = [max(proved[p], need[p]) for p in before[start]]
            value = 0 if start == flow.entry else min(known)
            changed |= value != proved[start]
            proved[start] = value
    return {start: need[start] for start in flow.blocks if need[start] > proved[start]}


def _loads(block: Block) -> int:
    """The last byte that the block loads for certain, one past it; NEVER if no packet has it."""
    if any(i.end > MAX_OFFSET for i in block.instructions if i.form.size):
        return NEVER
    return max((i.end for i in block.instructions if i.kind in CHECKED_HERE), default=0)
