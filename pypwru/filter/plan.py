"""The compiler's driver: classic BPF to a plan, from which eBPF is generated for any stack offset.

The passes in their order; each module's "Establishes:" is what holds after its pass.
"""

from __future__ import annotations

from typing import NamedTuple

from pypwru.filter.blocks import Flow, arrange, can_match, split
from pypwru.filter.cbpf import ClassicProgram, Kind
from pypwru.filter.guards import drop_hopeless, place_guards
from pypwru.filter.liveness import Liveness, analyse
from pypwru.filter.reads import NOTHING, Reach, Reads, plan_reads
from pypwru.filter.vlan import ETHERNET_HEADER, find_tag_test, look_behind_tag, make_room


class Plan(NamedTuple):
    """Everything about a filter that does not depend on the stack offset.

    Args:
        flow: the optimized program.
        guards: name of a block -> bytes that the packet must have when it is entered.
        liveness: of registers and scratch words.
        reads: how each packet load is done.
        tag_aware: the filter looks for VLAN tags, so a tagged frame is presented with its tag.
        reach: how far into the packet the filter reads.
        is_contradiction: no packet can match; libpcap's optimizer would reject the expression.
    """

    flow: Flow
    guards: dict[int, int]
    liveness: Liveness
    reads: Reads
    tag_aware: bool
    reach: Reach
    is_contradiction: bool

    @property
    def uses_len(self) -> bool:
        """Whether the filter reads the packet's length (``len``)."""
        return any(i.kind is Kind.LOAD_LENGTH for i in self.flow.instructions())

    @property
    def loops(self) -> bool:
        """Whether there is a backward jump: from a block to itself or to an earlier one."""
        blocks = self.flow.blocks.values()
        return any(0 <= target <= block.start for block in blocks for target in block.successors)

    @property
    def checks_in_body(self) -> bool:
        """Whether the body has bounds checks, which need ``caplen`` after the prologue."""
        late = any(start != self.flow.entry for start in self.guards)
        return late or any(load.must_check for load in self.reads.indirect.values())


def make_plan(program: ClassicProgram, has_tag: bool) -> Plan:
    """Run the passes over ``program``.

    Args:
        program: a valid program, from :func:`pypwru.filter.cbpf.validate`.
        has_tag: packets begin with an Ethernet header, and their VLAN tag may be accelerated.
    """
    flow = split(program)
    tag_test = None
    if flow.blocks:  # imported here, since a run without a filter doesn't need it
        from pypwru.filter.optimize import fold, optimize

        written = fold(flow)
        tag_test = find_tag_test(written) if has_tag else None
        flow = optimize(written)
        if tag_test is not None and not can_match(flow):
            flow = optimize(look_behind_tag(written, tag_test))
    tag_aware = tag_test is not None
    is_contradiction = not can_match(flow)
    flow = arrange(drop_hopeless(flow))
    guards = place_guards(flow)
    liveness = analyse(flow)
    reads = plan_reads(flow)
    if tag_aware:
        reads = make_room(reads)
    reach = NOTHING
    if flow.blocks:
        from pypwru.filter.reach import find_reach

        reach = find_reach(flow, ETHERNET_HEADER if has_tag else 0)
    return Plan(flow, guards, liveness, reads, tag_aware, reach, is_contradiction)
