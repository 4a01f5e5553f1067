"""Pass 3: bounds checks of loads at constant offsets.

A load out of bounds makes the whole filter return "no match" (libpcap, ``bpf_filter.c``). Classic
BPF has no side effects, so it may return that as soon as it is certain. A block *needs* n bytes if
every path from it to a match loads up to byte n: a shorter packet can't match.

Establishes: a path enters a block only with the bytes it needs, proved by a guard at the start of
this block or an earlier one; a block without any path to a match is gone. Usually a filter has one
guard, at its entry. The equations are those of cbpfc's ``addAbsolutePacketGuards``.
"""

from __future__ import annotations

from pypwru.filter.blocks import MATCH, NO_MATCH, Block, Blocks, Flow, predecessors, redirect
from pypwru.filter.cbpf import MAX_OFFSET, Kind

NEVER = 1 << 40
"""Required bytes of a block from which no packet can match."""

CONSTANT_LOADS = (Kind.LOAD_ABSOLUTE, Kind.LOAD_HEADER_LENGTH)
CHECKED_HERE = (*CONSTANT_LOADS, Kind.CHECK_ABSOLUTE)


def drop_hopeless(flow: Flow) -> Flow:
    """Return ``flow`` without the blocks from which no match is possible."""
    need = needs(flow.blocks)
    return redirect(flow, {start: NO_MATCH for start, n in need.items() if n >= NEVER})


def needs(blocks: Blocks) -> dict[int, int]:
    """Return name -> bytes that the packet must have for any path from the block to match.

    It is the greatest solution of the equations: a loop without an exit never matches.
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
    """Return name -> bytes to check for at the start of the block, for blocks with a guard."""
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
    """Return one past the last byte that the block loads; NEVER if no packet has it."""
    if any(i.end > MAX_OFFSET for i in block.instructions if i.form.size):
        return NEVER
    return max((i.end for i in block.instructions if i.kind in CHECKED_HERE), default=0)
