"""Pass 2d: reordering of tests, so that tests of the same bytes are adjacent.

``port 80 or port 443`` tests source, destination, source, destination. Tests that have a successor
in common can be reordered, with one restriction: a test that is done earlier than before must not
match where a load that preceded it would have been out of bounds. So those loads are inserted
before the test. Only their bounds checks remain after later passes, and these are needed anyway.
That takes loads that every packet reaches which gets as far: those of the first test that is still
to be done. A load behind that test is not done where the test has matched, so no test passes it.

Establishes: in a chain of blocks, each the only predecessor of the next and all with a successor in
common, blocks with the same loads are adjacent. Those come first that load what the block before
the chain has just loaded.
"""

from __future__ import annotations

from itertools import chain as joined

from pypwru.asm.cbpf import ClassicInstruction, InstructionKind
from pypwru.filter.cfg import CFG, NO_MATCH, Block, Blocks, predecessors
from pypwru.filter.liveness import Liveness, analyse_liveness

Code = tuple[ClassicInstruction, ...]


def group_tests(cfg: CFG) -> CFG:
    """Return ``cfg`` with the tests of each chain reordered."""
    liveness = analyse_liveness(cfg)
    preds = predecessors(cfg.blocks)
    blocks = dict(cfg.blocks)
    moved = set[int]()
    for start, block in cfg.blocks.items():
        for common in block.successors if start not in moved else ():
            chain = _chain(cfg.blocks, preds, liveness, start, common)
            if len(chain) > 1:
                blocks.update(_reorder_chain(blocks, preds, chain, common))
                moved.update(chain)
                break
    return CFG(cfg.entry, blocks)


def _chain(
    blocks: Blocks, preds: dict[int, list[int]], liveness: Liveness, start: int, common: int
) -> list[int]:
    """Return the longest chain of tests from ``start`` on.

    Args:
        blocks: the program.
        preds: name of a block -> its predecessors.
        liveness: blocks of a chain have no live locations at their start and end.
        start: the first block.
        common: the successor that all blocks of the chain have.
    """
    chain: list[int] = []
    while (
        start >= 0
        and common in blocks[start].successors
        and blocks[start].instructions[-1].kind is InstructionKind.BRANCH
        and not liveness.live_in[start]
        and not liveness.live_out[start]
        and (not chain or preds[start] == chain[-1:])
    ):
        chain.append(start)
        start = _next_test(blocks[start], common)
    return chain


def _next_test(block: Block, common: int) -> int:
    one, other = block.successors
    return other if one == common else one


def _reorder_chain(
    blocks: Blocks, preds: dict[int, list[int]], chain: list[int], common: int
) -> Blocks:
    """Return the blocks of ``chain`` reordered; empty if the order is good.

    Args:
        blocks: the program.
        preds: name of a block -> its predecessors.
        chain: names of its blocks. The new order has the same names in the same sequence.
        common: the successor that all of them have.
    """
    first_blocks: dict[Code, int] = {}  # loads -> the first block of the chain that has them
    for start in chain:
        first_blocks.setdefault(_block_loads(blocks[start]), start)
    order = dict(first_blocks)
    if len(preds[chain[0]]) == 1:
        order[_block_loads(blocks[preds[chain[0]][0]])] = NO_MATCH  # sorts first
    sources = sorted(chain, key=lambda start: order[_block_loads(blocks[start])])
    if sources == chain:
        return {}
    last = _next_test(blocks[chain[-1]], common)
    found: Blocks = {}
    loaded = set[Code]()
    pending = sorted(chain)
    for source, name, following in zip(sources, chain, (*chain[1:], last), strict=True):
        block = blocks[source]
        unconditional = _block_loads(blocks[pending[0]])
        pending.remove(source)
        earlier_loads = [code for code, start in first_blocks.items() if start < source]
        inserted = [code for code in earlier_loads if common != NO_MATCH and code not in loaded]
        if any(code != unconditional for code in inserted):
            return {}
        loaded.update(inserted, (_block_loads(block),))
        successors = tuple(common if s == common else following for s in block.successors)
        found[name] = Block(name, (*joined(*inserted), *block.instructions), successors)
    return found


def _block_loads(block: Block) -> Code:
    return block.instructions[:-1]
