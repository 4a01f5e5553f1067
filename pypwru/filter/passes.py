"""The compiler's driver: classic BPF to a plan, from which eBPF is generated for any stack offset.

The passes in their order; each module's "Establishes:" is what holds after its pass.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.asm.cbpf import ClassicProgram, InstructionKind
from pypwru.filter.cfg import CFG, build_cfg, can_match, reorder_blocks
from pypwru.filter.guards import insert_guards, prune_unmatchable
from pypwru.filter.liveness import Liveness, analyse_liveness
from pypwru.filter.packet_loads import NO_REACH, PacketLoads, Reach, plan_loads
from pypwru.filter.vlan import (
    ETHERNET_HEADER,
    extend_window_for_tag,
    find_tag_test,
    shift_loads_behind_tag,
)


class Plan(NamedTuple):
    """Everything about a filter that does not depend on the stack offset.

    Args:
        cfg: the optimized program.
        guards: name of a block -> bytes that the packet must have when it is entered.
        liveness: of registers and scratch words.
        loads: how each packet load is done.
        is_tag_aware: the filter looks for VLAN tags, so a tagged frame is presented with its tag.
        reach: how far into the packet the filter reads.
        is_contradiction: no packet can match; libpcap's optimizer would reject the expression.
    """

    cfg: CFG
    guards: dict[int, int]
    liveness: Liveness
    loads: PacketLoads
    is_tag_aware: bool
    reach: Reach
    is_contradiction: bool

    @property
    def uses_len(self) -> bool:
        """Whether the filter reads the packet's length (``len``)."""
        return any(i.kind is InstructionKind.LOAD_LENGTH for i in self.cfg.instructions())

    @property
    def has_loops(self) -> bool:
        """Whether there is a backward jump: from a block to itself or to an earlier one."""
        blocks = self.cfg.blocks.values()
        return any(0 <= target <= block.start for block in blocks for target in block.successors)

    @property
    def has_checks_in_body(self) -> bool:
        """Whether the body has bounds checks, which need ``caplen`` after the prologue."""
        late = any(start != self.cfg.entry for start in self.guards)
        return late or any(load.must_check for load in self.loads.indirect_loads.values())


def make_plan(program: ClassicProgram, has_tag: bool) -> Plan:
    """Run the passes over ``program``.

    Args:
        program: a valid program, from :func:`pypwru.asm.cbpf.validate`.
        has_tag: packets begin with an Ethernet header, and their VLAN tag may be accelerated.
    """
    cfg = build_cfg(program)
    tag_test = None
    if cfg.blocks:  # imported here, since a run without a filter doesn't need it
        from pypwru.filter.optimize import fold, optimize

        folded = fold(cfg)
        tag_test = find_tag_test(folded) if has_tag else None
        cfg = optimize(folded)
        if tag_test is not None and not can_match(cfg):
            cfg = optimize(shift_loads_behind_tag(folded, tag_test))
    is_tag_aware = tag_test is not None
    is_contradiction = not can_match(cfg)
    cfg = reorder_blocks(prune_unmatchable(cfg))
    guards = insert_guards(cfg)
    liveness = analyse_liveness(cfg)
    loads = plan_loads(cfg)
    if is_tag_aware:
        loads = extend_window_for_tag(loads)
    reach = NO_REACH
    if cfg.blocks:
        from pypwru.filter.reach import find_reach

        reach = find_reach(cfg, ETHERNET_HEADER if has_tag else 0)
    return Plan(cfg, guards, liveness, loads, is_tag_aware, reach, is_contradiction)
