"""Pass 4: liveness of A, X and the scratch words.

Establishes: for every instruction, the set that must survive it. Locations that are live at the
entry are read before they are written. libpcap's interpreter starts with zeros (A and X always,
scratch memory since libpcap 1.10.6), so the prologue zeroes them, and no others.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.filter.blocks import Block, Flow, loop_heads
from pypwru.filter.cbpf import ClassicInstruction, Kind

Live = frozenset[str]
"""A set of locations: "A", "X", "M0" to "M15"."""

_REGISTERS = {names: frozenset(names) for names in ("", "A", "X", "AX")}


class Liveness(NamedTuple):
    """The locations that are live.

    Args:
        at_entry: at the start of the program.
        after: program position -> after the instruction.
        entering, leaving: name of a block -> at its start, and at its end.
    """

    at_entry: Live
    after: dict[int, Live]
    entering: dict[int, Live]
    leaving: dict[int, Live]


def analyse(flow: Flow) -> Liveness:
    """Compute liveness: backward data-flow analysis of ``flow`` to the fixed point."""
    loops = bool(loop_heads(flow))
    entering: dict[int, Live] = {start: frozenset() for start in flow.blocks}
    after: dict[int, Live] = {}
    changed = True
    while changed:
        changed = False
        for block in reversed(flow.blocks.values()):
            live = _through(block, entering, after)
            # Without loops one round is enough: every block is visited after its successors.
            changed |= loops and live != entering[block.start]
            entering[block.start] = live
    leaving = {start: _leaving(block, entering) for start, block in flow.blocks.items()}
    return Liveness(entering.get(flow.entry, frozenset()), after, entering, leaving)


def reads(instruction: ClassicInstruction) -> Live:
    """Return the locations that ``instruction`` reads."""
    form = instruction.form
    return _word(instruction) if form.kind is Kind.LOAD_SCRATCH else _REGISTERS[form.reads]


def writes(instruction: ClassicInstruction) -> Live:
    """Return the locations that ``instruction`` writes."""
    form = instruction.form
    return _word(instruction) if form.kind is Kind.STORE_SCRATCH else _REGISTERS[form.writes]


def _word(instruction: ClassicInstruction) -> Live:
    return frozenset((f"M{instruction.k}",))


def _leaving(block: Block, entering: dict[int, Live]) -> Live:
    return frozenset().union(*(entering.get(s, frozenset()) for s in block.successors))


def _through(block: Block, entering: dict[int, Live], after: dict[int, Live]) -> Live:
    live = _leaving(block, entering)
    for position, instruction in zip(
        reversed(block.positions), reversed(block.instructions), strict=True
    ):
        after[position] = live
        live = (live - writes(instruction)) | reads(instruction)
    return live
