"""Pass 3: which of A, X and the scratch words will still be read.

Establishes: for every instruction, what must survive it. What is live at the entry is what the
program reads before it writes; libpcap's interpreter starts with zeros (A and X always, scratch
memory since 1.10.6), so the translation stores zeros there and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.filter.cbpf import ClassicInstruction, Kind

if TYPE_CHECKING:
    from pypwru.filter.blocks import Block, Flow

Live = frozenset[str]
"""Of "A", "X" and "M0" to "M15"."""


class Liveness(NamedTuple):
    at_entry: Live
    after: dict[int, Live]
    """Program position of an instruction -> what is read later."""


def analyse(flow: Flow) -> Liveness:
    """Backward data flow over ``flow`` to the fixed point."""
    entering: dict[int, Live] = {start: frozenset() for start in flow.blocks}
    after: dict[int, Live] = {}
    changed = True
    while changed:
        changed = False
        for block in reversed(flow.blocks.values()):
            live = _through(block, entering, after)
            changed |= live != entering[block.start]
            entering[block.start] = live
    return Liveness(entering.get(flow.entry, frozenset()), after)


def reads(instruction: ClassicInstruction) -> Live:
    extra = {f"M{instruction.k}"} if instruction.kind is Kind.LOAD_SCRATCH else set()
    return frozenset(instruction.form.reads) | extra


def writes(instruction: ClassicInstruction) -> Live:
    extra = {f"M{instruction.k}"} if instruction.kind is Kind.STORE_SCRATCH else set()
    return frozenset(instruction.form.writes) | extra


def _through(block: Block, entering: dict[int, Live], after: dict[int, Live]) -> Live:
    live: Live = frozenset().union(*(entering.get(s, frozenset()) for s in block.successors))
    for position, instruction in zip(
        reversed(block.positions), reversed(block.instructions), strict=True
    ):
        after[position] = live
        live = (live - writes(instruction)) | reads(instruction)
    return live
