"""Pass 4: liveness of A, X and the scratch words.

Establishes: for every instruction, the set that must survive it. Locations that are live at the
entry are read before they are written. libpcap's interpreter starts with zeros (A and X always,
scratch memory since libpcap 1.10.6), so the prologue zeroes them, and no others.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.asm.cbpf import ClassicInstruction, InstructionKind
from pypwru.filter.cfg import CFG, Block, loop_headers

LiveSet = frozenset[str]
"""A set of locations: "A", "X", "M0" to "M15"."""

_REGISTERS = {names: frozenset(names) for names in ("", "A", "X", "AX")}


class Liveness(NamedTuple):
    """The locations that are live.

    Args:
        live_at_entry: at the start of the program.
        live_after: program position -> after the instruction.
        live_in, live_out: name of a block -> at its start, and at its end.
    """

    live_at_entry: LiveSet
    live_after: dict[int, LiveSet]
    live_in: dict[int, LiveSet]
    live_out: dict[int, LiveSet]


def analyse_liveness(cfg: CFG) -> Liveness:
    """Compute liveness: backward data-flow analysis of ``cfg`` to the fixed point."""
    has_loops = bool(loop_headers(cfg))
    live_in: dict[int, LiveSet] = {start: frozenset() for start in cfg.blocks}
    live_after: dict[int, LiveSet] = {}
    changed = True
    while changed:
        changed = False
        for block in reversed(cfg.blocks.values()):
            live = _transfer(block, live_in, live_after)
            # Without loops one round is enough: every block is visited after its successors.
            changed |= has_loops and live != live_in[block.start]
            live_in[block.start] = live
    live_out = {start: _live_out(block, live_in) for start, block in cfg.blocks.items()}
    return Liveness(live_in.get(cfg.entry, frozenset()), live_after, live_in, live_out)


def locations_read(instruction: ClassicInstruction) -> LiveSet:
    """Return the locations that ``instruction`` reads."""
    form = instruction.opcode
    return (
        _scratch_location(instruction)
        if form.kind is InstructionKind.LOAD_SCRATCH
        else _REGISTERS[form.reads]
    )


def locations_written(instruction: ClassicInstruction) -> LiveSet:
    """Return the locations that ``instruction`` writes."""
    form = instruction.opcode
    return (
        _scratch_location(instruction)
        if form.kind is InstructionKind.STORE_SCRATCH
        else _REGISTERS[form.writes]
    )


def _scratch_location(instruction: ClassicInstruction) -> LiveSet:
    return frozenset((f"M{instruction.k}",))


def _live_out(block: Block, live_in: dict[int, LiveSet]) -> LiveSet:
    return frozenset().union(*(live_in.get(s, frozenset()) for s in block.successors))


def _transfer(block: Block, live_in: dict[int, LiveSet], live_after: dict[int, LiveSet]) -> LiveSet:
    live = _live_out(block, live_in)
    for position, instruction in zip(
        reversed(block.positions), reversed(block.instructions), strict=True
    ):
        live_after[position] = live
        live = (live - locations_written(instruction)) | locations_read(instruction)
    return live
