"""The compiler's driver: classic BPF to a plan, from which the eBPF is written for any stack.

The passes in their order, each named for what holds after it; see the modules for how.
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
    """All that is decided about a filter before its stack is known."""

    flow: Flow
    guards: dict[int, int]
    liveness: Liveness
    reads: Reads
    tag_aware: bool
    reach: Reach
    is_contradiction: bool
    """Whether its conditions exclude each other: libpcap's optimizer would refuse it."""

    @property
    def uses_len(self) -> bool:
        return any(i.kind is Kind.LOAD_LENGTH for i in self.flow.instructions())

    @property
    def loops(self) -> bool:
        """Whether any block goes to itself or an earlier one."""
        blocks = self.flow.blocks.values()
        return any(0 <= target <= block.start for block in blocks for target in block.successors)

    @property
    def checks_in_body(self) -> bool:
        """Whether ``caplen`` is still needed after the head of the filter."""
        late = any(start != self.flow.entry for start in self.guards)
        return late or any(load.must_check for load in self.reads.indirect.values())


def make_plan(program: ClassicProgram, has_tag: bool) -> Plan:
    """Decide how ``program`` runs.

    Args:
        program: valid, as :func:`pypwru.filter.cbpf.validate` left it.
        has_tag: the packet begins with an Ethernet header, whose VLAN tag may be elsewhere.
    """
    flow = split(program)
    tag_test = None
    if flow.blocks:  # what a run without a filter need not load
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
