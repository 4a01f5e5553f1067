"""Pass 9a: code generation of the prologue.

It does the first bounds check, saves what must survive helper calls, and fills the header window.

On entry r1 = address of the packet (a scalar to the verifier), r2 = ``caplen``, the bytes readable
there, r3 = ``len``, r4 = the accelerated VLAN tag: 0 for none, otherwise 1 << 32 | TPID << 16 |
TCI. On exit A, X and scratch words are zero if the program relies on it. If the body has no helper
calls, r4 = ``len`` and r5 = ``caplen`` as far as they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypwru.asm import ebpf
from pypwru.asm.ebpf import R0, R1, R2, R3, R4, R5, R10, Assembler
from pypwru.filter.cfg import NO_MATCH
from pypwru.filter.stack_layout import (
    CAPLEN_SLOT,
    DATA_SLOT,
    HEADER_WINDOW_SLOT,
    LENGTH_SLOT,
    LOOP_BUDGET_SLOT,
    TAG_SLOT,
    WINDOW_DELTA_SLOT,
    StackLayout,
    split_aligned,
)
from pypwru.filter.vlan import TAG_OFFSET, TAG_SIZE

if TYPE_CHECKING:
    from pypwru.filter.passes import Plan

A, X, LEN_REGISTER, CAPLEN_REGISTER = R0, R1, R4, R5

MAX_BACK_EDGES = 64
"""Limit of backward jumps at run time. libpcap emits them for ``protochain`` only; one is taken for
each header of the chain. A packet with more extension headers does not match."""


def emit_prologue(asm: Assembler, plan: Plan, layout: StackLayout, too_short: int) -> None:
    """Generate the prologue.

    Args:
        asm: receives the instructions.
        plan: the filter.
        layout: its stack slots.
        too_short: the label to jump to if the packet is too short.
    """
    ready = asm.new_label()
    if plan.is_tag_aware:
        untagged = asm.new_label()
        asm.branch(ebpf.JEQ, R4, 0, untagged)
        _emit_tagged_window(asm, plan, layout, too_short)
        asm.jump(ready)
        asm.bind_label(untagged)
    _check_and_save(asm, plan, layout, too_short)
    if DATA_SLOT in layout:
        asm.store(8, R10, layout[DATA_SLOT], R1)
    if WINDOW_DELTA_SLOT in layout:
        asm.constant(R5, 0)
        asm.store(8, R10, layout[WINDOW_DELTA_SLOT], R5)
    if plan.loads.header_window:
        _read_at(
            asm,
            R1,
            plan.loads.header_window.low,
            layout[HEADER_WINDOW_SLOT],
            plan.loads.header_window.size,
        )
    asm.bind_label(ready)
    if not plan.loads.has_calls_in_body:
        _load_argument_registers(asm, plan, layout)
    _zero_initialize(asm, plan, layout)


def _check_and_save(asm: Assembler, plan: Plan, layout: StackLayout, too_short: int) -> None:
    if needed := plan.guards.get(plan.cfg.entry):
        asm.branch(ebpf.JLT, R2, needed, too_short)
    if CAPLEN_SLOT in layout:
        asm.store(8, R10, layout[CAPLEN_SLOT], R2)
    if LENGTH_SLOT in layout:
        asm.store(8, R10, layout[LENGTH_SLOT], R3)


def _emit_tagged_window(asm: Assembler, plan: Plan, layout: StackLayout, too_short: int) -> None:
    """Generate the header window of a frame with an accelerated tag: MAC addresses, tag, rest.

    Behind the tag, offset n of the frame is at address r1 - 4 + n.
    """
    window, window_offset = plan.loads.header_window, layout[HEADER_WINDOW_SLOT]
    assert window is not None
    asm.add(R2, TAG_SIZE)
    _check_and_save(asm, plan, layout, too_short)
    asm.store(8, R10, layout[TAG_SLOT], R4)
    if DATA_SLOT in layout:
        asm.move(R5, R1)
        asm.add(R5, -TAG_SIZE)
        asm.store(8, R10, layout[DATA_SLOT], R5)
    if WINDOW_DELTA_SLOT in layout:
        asm.move(R2, R10)
        asm.add(R2, window_offset)
        asm.make_scalar(R2)
        asm.subtract_register(R2, R5)
        asm.store(8, R10, layout[WINDOW_DELTA_SLOT], R2)
    _read_at(asm, R1, window.low, window_offset + TAG_SIZE, window.size - TAG_SIZE)
    copy_stack(asm, window_offset, window_offset + TAG_SIZE, TAG_OFFSET - window.low)
    asm.load(8, R2, R10, layout[TAG_SLOT])
    asm.from_big_endian(R2, 4)  # on a little-endian machine its own inverse
    _store_u32(asm, window_offset + TAG_OFFSET - window.low)


def copy_stack(asm: Assembler, dst: int, src: int, size: int) -> None:
    """Generate a copy of stack memory; r2 is clobbered.

    Args:
        asm: receives the instructions.
        dst: offset of the destination from r10, in bytes.
        src: offset of the source from r10, in bytes.
        size: in bytes.
    """
    unit = next(n for n in (4, 2, 1) if (src - dst) % n == 0)
    for offset, length in split_aligned(dst, size, unit):
        asm.load(length, R2, R10, offset - dst + src)
        asm.store(length, R10, offset, R2)


def _store_u32(asm: Assembler, offset: int) -> None:
    """Generate a store of r2 as u32 to the stack at ``offset``, aligned or not; r2 is clobbered."""
    for part_offset, size in split_aligned(offset, 4):
        asm.store(size, R10, part_offset, R2)
        if part_offset + size < offset + 4:
            asm.alu32(ebpf.RSH, R2, 8 * size)


def _read_at(asm: Assembler, base: int, offset: int, dst: int, size: int) -> None:
    """Generate a read of the packet to the stack; on a fault the filter does not match.

    Args:
        asm: receives the instructions.
        base: the register with the address.
        offset: added to it, in bytes.
        dst: destination, as an offset from r10.
        size: in bytes.
    """
    asm.move(R3, base)
    asm.add(R3, offset)
    read_packet(asm, dst, size)


def read_packet(asm: Assembler, dst: int, size: int) -> None:
    """Generate a read of ``size`` bytes at the address in r3 to r10 + ``dst``.

    On a fault the filter does not match. r0-r5 are clobbered.
    """
    asm.move(R1, R10)
    asm.add(R1, dst)
    asm.constant(R2, size)
    asm.call(ebpf.PROBE_READ_KERNEL)
    asm.branch(ebpf.JNE, R0, 0, NO_MATCH)


def _load_argument_registers(asm: Assembler, plan: Plan, layout: StackLayout) -> None:
    if plan.uses_len:
        if LENGTH_SLOT in layout:
            asm.load(8, LEN_REGISTER, R10, layout[LENGTH_SLOT])
        else:
            asm.move(LEN_REGISTER, R3)
    if CAPLEN_SLOT in layout:
        asm.load(8, CAPLEN_REGISTER, R10, layout[CAPLEN_SLOT])
    elif plan.has_checks_in_body:
        asm.move(CAPLEN_REGISTER, R2)


def _zero_initialize(asm: Assembler, plan: Plan, layout: StackLayout) -> None:
    if plan.has_loops:
        # From a register: before Linux 6.8 the verifier does not track the value of an immediate
        # store to the stack, and would reject the loop as unbounded.
        asm.constant(R2, MAX_BACK_EDGES)
        asm.store(8, R10, layout[LOOP_BUDGET_SLOT], R2)
    live = plan.liveness.live_at_entry
    scratch_words = sorted(live - {"A", "X"})
    if scratch_words:
        asm.constant(R2, 0)
    for scratch_word in scratch_words:
        asm.store(4, R10, layout[scratch_word], R2)
    for name, register in (("A", A), ("X", X)):
        if name in live:
            asm.constant(register, 0)
