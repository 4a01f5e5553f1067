"""A translated filter: classic BPF in, eBPF for any stack out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pypwru.filter import ebpf
from pypwru.filter.blocks import MATCH
from pypwru.filter.ebpf import Insn
from pypwru.filter.emit import emit
from pypwru.filter.frame import lay_out
from pypwru.filter.plan import Plan, make_plan

if TYPE_CHECKING:
    from pypwru.filter.cbpf import ClassicProgram


class _View(NamedTuple):
    program: ClassicProgram
    has_tag: bool
    is_inner: bool


class Translation(_View):
    """One view of a filter: for packets that begin with an Ethernet header, or an IP header.

    Args:
        program: what libpcap compiled, or an equivalent for what it can't.
        has_tag: whether the accelerated VLAN tag belongs to the packet (an Ethernet header).
        is_inner: whether it is about a packet inside another.
    """

    plan: Plan

    def __new__(
        cls, program: ClassicProgram, has_tag: bool = False, is_inner: bool = False
    ) -> Translation:
        """Plan the translation.

        Raises:
            FilterError: the program can't be translated.
        """
        view = super().__new__(cls, program, has_tag, is_inner)
        view.plan = make_plan(program, has_tag)
        return view

    @property
    def constant(self) -> bool | None:
        """The answer, if it is the same for every packet."""
        entry = self.plan.flow.entry
        return entry == MATCH if entry < 0 else None

    @property
    def uses_len(self) -> bool:
        """Whether the third argument matters."""
        return self.plan.uses_len

    @property
    def uses_tag(self) -> bool:
        """Whether the fourth argument matters."""
        return self.plan.tag_aware

    @property
    def needs_fragments(self) -> bool:
        """Whether it tells where bytes are missing, to be asked again with those in fragments."""
        return self.constant is None and (self.is_inner or self.plan.reach.beyond_headers)

    def body(self, stack_base: int) -> list[Insn]:
        """The instructions, r1..r4 in, r0 out (:mod:`pypwru.filter.head`, and emit's BEYOND).

        Args:
            stack_base: the lowest offset from r10 that is in use, 0 or negative.

        Raises:
            FilterError: the stack does not suffice.
        """
        if self.constant is not None:
            return [Insn(ebpf.ALU32 | ebpf.MOV, ebpf.R0, imm=int(self.constant))]
        frame = lay_out(self.plan, stack_base, self.program.source)
        return emit(self.plan, frame, tells_missing=self.needs_fragments)
