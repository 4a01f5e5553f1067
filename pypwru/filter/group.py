"""Pass 2d: tests of the same bytes beside each other.

``port 80 or port 443`` tests source, destination, source, destination. The order of tests with one
outcome in common is free, but for one thing: a test that comes earlier must not match where a load
that stood before it would have been out of bounds. So these loads are put in front of it; of those
nothing is left but a check of the bounds, and that is needed anyway.

Establishes: in a chain of blocks, each the only way to the next and all with one exit in common,
those that load the same stand side by side, first those that load what was just loaded.
"""

from __future__ import annotations

from itertools import chain as joined

from pypwru.filter.blocks import NO_MATCH, Block, Blocks, Flow, predecessors
from pypwru.filter.cbpf import ClassicInstruction, Kind
from pypwru.filter.liveness import Liveness, analyse

Code = tuple[ClassicInstruction, ...]


def group(flow: Flow) -> Flow:
    """``flow`` with the tests of each chain in a better order."""
    liveness = analyse(flow)
    before = predecessors(flow.blocks)
    blocks = dict(flow.blocks)
    moved = set[int]()
    for start, block in flow.blocks.items():
        for common in block.successors if start not in moved else ():
            chain = _chain(flow.blocks, before, liveness, start, common)
            if len(chain) > 1:
                blocks.update(_sorted(blocks, before, chain, common))
                moved.update(chain)
                break
    return Flow(flow.entry, blocks)


def _chain(
    blocks: Blocks, before: dict[int, list[int]], liveness: Liveness, start: int, common: int
) -> list[int]:
    """The blocks from ``start`` on that are tested one after the other, or go to ``common``."""
    chain: list[int] = []
    while (
        start >= 0
        and common in blocks[start].successors
        and blocks[start].instructions[-1].kind is Kind.BRANCH
        and not liveness.entering[start]
        and not liveness.leaving[start]
        and (not chain or before[start] == chain[-1:])
    ):
        chain.append(start)
        start = _following(blocks[start], common)
    return chain


def _following(block: Block, common: int) -> int:
    one, other = block.successors
    return other if one == common else one


def _sorted(blocks: Blocks, before: dict[int, list[int]], chain: list[int], common: int) -> Blocks:
    """The blocks of ``chain`` in a better order, under the names that it has."""
    places: dict[Code, int] = {}  # where it is loaded first
    for start in chain:
        places.setdefault(_loads(blocks[start]), start)
    order = dict(places)
    if len(before[chain[0]]) == 1:
        order[_loads(blocks[before[chain[0]][0]])] = NO_MATCH  # less than any other
    sources = sorted(chain, key=lambda start: order[_loads(blocks[start])])
    if sources == chain:
        return {}
    last = _following(blocks[chain[-1]], common)
    found: Blocks = {}
    loaded = set[Code]()
    for source, name, following in zip(sources, chain, (*chain[1:], last), strict=True):
        block = blocks[source]
        stood_before = [code for code, start in places.items() if start < source]
        first = [code for code in stood_before if common != NO_MATCH and code not in loaded]
        loaded.update(first, (_loads(block),))
        successors = tuple(common if s == common else following for s in block.successors)
        found[name] = Block(name, (*joined(*first), *block.instructions), successors)
    return found


def _loads(block: Block) -> Code:
    return block.instructions[:-1]
