"""A filter program: classic BPF in, eBPF for any stack offset out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.asm import ebpf
from pypwru.asm.ebpf import Insn
from pypwru.filter.cfg import MATCH
from pypwru.filter.codegen import emit
from pypwru.filter.passes import Plan, make_plan
from pypwru.filter.stack_layout import lay_out_stack

if TYPE_CHECKING:
    from pypwru.asm.cbpf import ClassicProgram


class _FilterProgramFields(NamedTuple):
    program: ClassicProgram
    has_tag: bool
    is_inner: bool


class FilterProgram(_FilterProgramFields):
    """One view of a filter: for packets that begin with an Ethernet header, or with an IP header.

    Args:
        program: from libpcap, or a program of one ``ret`` that replaces one.
        has_tag: the packets begin with an Ethernet header and may have an accelerated VLAN tag.
        is_inner: it is matched against the packet inside a tunnel.
    """

    plan: Plan

    def __new__(
        cls, program: ClassicProgram, has_tag: bool = False, is_inner: bool = False
    ) -> FilterProgram:
        """Run the passes; the arguments are those of the class.

        Raises:
            FilterError: the program can't be translated.
        """
        view = super().__new__(cls, program, has_tag, is_inner)
        view.plan = make_plan(program, has_tag)
        return view

    @property
    def constant_result(self) -> bool | None:
        """The result, if it is the same for every packet; otherwise None."""
        entry = self.plan.cfg.entry
        return entry == MATCH if entry < 0 else None

    @property
    def uses_len(self) -> bool:
        """Whether the third argument, the packet's length, is read."""
        return self.plan.uses_len

    @property
    def uses_tag(self) -> bool:
        """Whether the fourth argument, the accelerated VLAN tag, is read."""
        return self.plan.is_tag_aware

    @property
    def needs_fragments(self) -> bool:
        """Whether it returns NEEDS_FRAGMENTS for a packet that is too short.

        The handler then runs it again on a copy that includes the bytes in fragments.
        """
        return self.constant_result is None and (self.is_inner or self.plan.reach.may_read_payload)

    def body(self, stack_base: int) -> list[Insn]:
        """Return eBPF of the filter.

        The arguments in r1 to r4 are described in :mod:`pypwru.filter.prologue`, the result in r0
        in :mod:`pypwru.filter.codegen`. r1-r5 are clobbered, r6-r9 preserved.

        Args:
            stack_base: the lowest offset from r10 that is in use, 0 or negative.

        Raises:
            FilterError: too little stack is left.
        """
        if self.constant_result is not None:
            return [Insn(ebpf.ALU32 | ebpf.MOV, ebpf.R0, imm=int(self.constant_result))]
        layout = lay_out_stack(self.plan, stack_base, self.program.source)
        return emit(self.plan, layout, reports_beyond=self.needs_fragments)
