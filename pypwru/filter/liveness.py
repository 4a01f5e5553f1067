"""Pass 4: which of A, X and the scratch words will still be read.

Establishes: for every instruction, what must survive it. What is live at the entry is what the
program reads before it writes; libpcap's interpreter starts with zeros (A and X always, scratch
memory since 1.10.6), so the translation stores zeros there and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.filter.blocks import Block, Flow, loop_heads
from pypwru.filter.cbpf import ClassicInstruction, Kind

Live = frozenset[str]
"""Of "A", "X" and "M0" to "M15"."""

_REGISTERS = {names: frozenset(names) for names in ("", "A", "X", "AX")}


class Liveness(NamedTuple):
    """What is read later.

    Args:
        at_entry: than the start of the program.
        after: program position of an instruction -> than that.
        entering, leaving: name of a block -> than its start, and its end.
    """

    at_entry: Live
    after: dict[int, Live]
    entering: dict[int, Live]
    leaving: dict[int, Live]


def analyse(flow: Flow) -> Liveness:
    """Backward data flow over ``flow`` to the fixed point."""
    loops = bool(loop_heads(flow))
    entering: dict[int, Live] = {start: frozenset() for start in flow.blocks}
    after: dict[int, Live] = {}
    changed = True
    while changed:
        changed = False
        for block in reversed(flow.blocks.values()):
            live = _through(block, entering, after)
            # Only what is read in a loop can be news to a block that was visited before.
            changed |= loops and live != entering[block.start]
            entering[block.start] = live
    leaving = {start: _leaving(block, entering) for start, block in flow.blocks.items()}
    return Liveness(entering.get(flow.entry, frozenset()), after, entering, leaving)


def reads(instruction: ClassicInstruction) -> Live:
    form = instruction.form
    return _word(instruction) if form.kind is Kind.LOAD_SCRATCH else _REGISTERS[form.reads]


def writes(instruction: ClassicInstruction) -> Live:
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
