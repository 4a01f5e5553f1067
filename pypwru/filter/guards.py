"""Pass 3: bounds checks of loads at constant offsets.

A load out of bounds makes the whole filter return "no match" (libpcap, ``bpf_filter.c``). Classic
BPF has no side effects, so it may return that as soon as it is certain. A block *needs* n bytes if
every path from it to a match loads up to byte n: a shorter packet can't match.

Establishes: a path enters a block only with the bytes it needs, proved by a guard at the start of
this block or an earlier one; a block without any path to a match is gone. Usually a filter has one
guard, at its entry. The equations are those of cbpfc's ``addAbsolutePacketGuards``.
"""

from __future__ import annotations

from pypwru.asm.cbpf import MAX_OFFSET, InstructionKind
from pypwru.filter.cfg import CFG, MATCH, NO_MATCH, Block, Blocks, predecessors, redirect_edges

UNSATISFIABLE = 1 << 40
"""Required bytes of a block from which no packet can match."""

CONSTANT_LOADS = (InstructionKind.LOAD_ABSOLUTE, InstructionKind.LOAD_HEADER_LENGTH)
GUARDED_LOADS = (*CONSTANT_LOADS, InstructionKind.CHECK_ABSOLUTE)


def prune_unmatchable(cfg: CFG) -> CFG:
    """Return ``cfg`` without the blocks from which no match is possible."""
    required = required_lengths(cfg.blocks)
    return redirect_edges(
        cfg, {start: NO_MATCH for start, n in required.items() if n >= UNSATISFIABLE}
    )


def required_lengths(blocks: Blocks) -> dict[int, int]:
    """Return name -> bytes that the packet must have for any path from the block to match.

    It is the greatest solution of the equations: a loop without an exit never matches.
    """
    required = dict.fromkeys(blocks, UNSATISFIABLE) | {MATCH: 0, NO_MATCH: UNSATISFIABLE}
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks.values()):
            best = min((required[s] for s in block.successors), default=0)
            value = max(_required_length(block), best)
            changed |= value != required[block.start]
            required[block.start] = value
    return {start: required[start] for start in blocks}


def insert_guards(cfg: CFG) -> dict[int, int]:
    """Return name -> bytes to check for at the start of the block, for blocks with a guard."""
    required = required_lengths(cfg.blocks)
    preds = predecessors(cfg.blocks)
    proved = dict.fromkeys(cfg.blocks, UNSATISFIABLE)  # on arrival, by every path
    changed = True
    while changed:
        changed = False
        for start in cfg.blocks:
            proved_on_edges = [max(proved[p], required[p]) for p in preds[start]]
            value = 0 if start == cfg.entry else min(proved_on_edges)
            changed |= value != proved[start]
            proved[start] = value
    return {start: required[start] for start in cfg.blocks if required[start] > proved[start]}


def _required_length(block: Block) -> int:
    """Return one past the last byte that the block loads; NEVER if no packet has it."""
    if any(i.end > MAX_OFFSET for i in block.instructions if i.opcode.size):
        return UNSATISFIABLE
    return max((i.end for i in block.instructions if i.kind in GUARDED_LOADS), default=0)
